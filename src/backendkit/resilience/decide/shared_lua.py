"""What Redis runs for a shared circuit; the same as `circuit` and `windows`, line by line, see `shared` for the layout."""

from __future__ import annotations

PRELUDE_LUA = r"""
local CLOSED, OPEN, HALF, FORCED, DISABLED, MEASURING = 0, 1, 2, 3, 4, 5
local PPM, DAY, HEAD = 1000000, 86400000000, 74
local LAYOUT = '>I1I1I7i7I7I7I7I4I2I4I4I4I4I4I4I7'
local SLICES = string.rep('>I4', 30)
local key = KEYS[1]
local a = {}
for i, v in ipairs(ARGV) do a[i] = tonumber(v) end
local calls, slice, minimum, failed_ppm, slow_ppm, open_us, growth, most_us = unpack(a, 1, 8)
local trials, trial_ppm, lease, ignored_pass = unpack(a, 9, 12)
local raw = redis.call('GETRANGE', key, 0, HEAD - 1)
local c = {
  mode = 0, strained = 0, last = 0, offset = 0, generation = 0, till = 0, opened = 0, openings = 0, lapses = 0,
  out = 0, trip_calls = 0, trip_failed = 0, total = 0, failed = 0, slow = 0, at = 0
}
if #raw > 0 then
  c.mode, c.strained, c.last, c.offset, c.generation, c.till, c.opened, c.openings, c.lapses, c.out, c.trip_calls,
    c.trip_failed, c.total, c.failed, c.slow, c.at = struct.unpack(LAYOUT, raw)
end
local t = now + c.offset
if t < c.last then
  c.offset = c.last - now
  t = c.last
end
local pieces, truncated, changed = {}, false, false
local function empty(mode)
  c.total, c.failed, c.slow, c.out, c.strained, c.at = 0, 0, 0, 0, 0, 0
  if calls == 0 and mode ~= HALF then c.at = (t - t % slice) / slice end
  c.mode = mode
  pieces, truncated, changed = {}, true, true
end
if a[14] > c.generation then
  c.generation, c.till, c.openings, c.lapses, c.opened = a[14], t + a[15], a[16], a[17], a[18]
  c.trip_calls, c.trip_failed = a[19], a[20]
  if a[13] == HALF then c.generation = math.max(c.generation + 1, t) end
  empty(a[13] == HALF and OPEN or a[13])
elseif #raw == 0 then
  c.generation = math.max(1, t)
  empty(CLOSED)
end
local before, before_generation, before_strained = c.mode, c.generation, c.strained
local function lease_us()
  local lasts = lease
  for _ = 1, c.lapses do
    if lasts >= DAY then break end
    lasts = lasts * 2
  end
  return math.min(lasts, DAY)
end
local function move(mode, jitter, asked)
  if mode == OPEN then
    c.trip_calls, c.trip_failed = c.total, c.failed
    if c.mode ~= OPEN or c.openings == 0 then c.openings = c.openings + 1 end
    c.opened = t
    local lasts = open_us
    for _ = 2, c.openings do
      if lasts >= most_us or growth == 1 then break end
      lasts = lasts * growth
    end
    lasts = math.min(lasts, most_us)
    local off = lasts * jitter
    c.till = t + math.max(1, lasts - (off - off % 1000) / 1000, math.min(asked, most_us))
  elseif mode == HALF then
    c.till = t + lease_us()
  elseif mode == FORCED then
    c.trip_calls, c.trip_failed, c.opened = c.total, c.failed, t
  end
  if mode == CLOSED or mode >= DISABLED then c.openings, c.lapses = 0, 0 end
  empty(mode)
  c.generation = math.max(c.generation + 1, t)
end
local function lapsed(jitter)
  changed = true
  if c.out == 0 then
    c.till = t + lease_us()
    return false
  end
  c.lapses = c.lapses + 1
  move(OPEN, jitter, 0)
  return true
end
local function answer(granted)
  local from, strained = -1, 0
  if c.generation ~= before_generation then from = before end
  if c.strained == 1 and before_strained == 0 then strained = 1 end
  local left = math.max(c.till - t, 0)
  if changed then
    local head = struct.pack(LAYOUT, c.mode, c.strained, t, c.offset, c.generation, c.till, c.opened, c.openings, c.lapses,
      c.out, c.trip_calls, c.trip_failed, c.total, c.failed, c.slow, c.at)
    if truncated then redis.call('SET', key, head) else redis.call('SETRANGE', key, 0, head) end
    for _, piece in ipairs(pieces) do redis.call('SETRANGE', key, piece[1], piece[2]) end
    if c.mode < FORCED then
      local life = left + 10 * slice + DAY
      redis.call('PEXPIRE', key, (life + 999 - (life + 999) % 1000) / 1000)
    end
  end
  return {
    granted, from, strained, c.total, c.failed, c.slow, c.mode, c.generation, left, c.openings, c.lapses, c.opened,
    c.trip_calls, c.trip_failed
  }
end
"""

ACQUIRE_LUA = (
    PRELUDE_LUA
    + r"""
local jitter = a[21]
if c.mode == FORCED then return answer(0) end
if c.mode == OPEN then
  if t < c.till then return answer(0) end
  move(HALF, 0, 0)
elseif c.mode ~= HALF then
  return answer(1)
elseif t >= c.till and lapsed(jitter) then
  return answer(0)
end
if c.out + c.total >= trials then return answer(0) end
c.out = c.out + 1
changed = true
return answer(1)
"""
)

REPORT_LUA = (
    PRELUDE_LUA
    + r"""
local generation, bits, asked, jitter, successes, may_open = unpack(a, 21, 26)
if generation ~= c.generation then return answer(1) end
local ignored = bits >= 4
local bad = bits % 2
local late = (bits - bad) / 2 % 2
if bad == 0 then asked = 0 end
local function trial()
  if c.out == 0 or (t >= c.till and lapsed(jitter)) then return end
  changed = true
  c.out = c.out - 1
  if ignored then
    if ignored_pass == 0 then return end
    bad, late = 0, 0
  end
  c.total, c.failed, c.slow = c.total + 1, c.failed + bad, c.slow + late
  local rest, failed_most, slow_most = trials - c.total, trial_ppm * trials, slow_ppm * trials
  if slow_ppm == 0 then slow_most = trials * PPM + 1 end
  if c.failed * PPM >= failed_most or c.slow * PPM >= slow_most then
    move(OPEN, jitter, asked)
  elseif rest == 0 or ((c.failed + rest) * PPM < failed_most and (c.slow + rest) * PPM < slow_most) then
    move(CLOSED, 0, 0)
  end
end
local function into_ring()
  local oks = math.min(successes, calls - 1)
  local data = table.concat({string.rep('\0', oks), string.char(bits)})
  local first = math.min(#data, calls - c.at)
  local function write(at, part)
    if #part == 0 then return end
    local old = ''
    if not truncated then old = redis.call('GETRANGE', key, HEAD + at, HEAD + at + #part - 1) end
    local _, failed = string.gsub(old, '[\1\3]', '')
    local _, slow = string.gsub(old, '[\2\3]', '')
    c.failed, c.slow = c.failed - failed, c.slow - slow
    pieces[#pieces + 1] = {HEAD + at, part}
  end
  write(c.at, string.sub(data, 1, first))
  write(0, string.sub(data, first + 1))
  c.at = (c.at + #data) % calls
  c.total = math.min(c.total + #data, calls)
end
local function into_slices()
  local body = ''
  if not truncated then body = redis.call('GETRANGE', key, HEAD, HEAD + 119) end
  if #body < 120 then body = string.rep('\0', 120) end
  local s = {struct.unpack(SLICES, body)}
  local newest = (t - t % slice) / slice
  for passed = math.max(c.at + 1, newest - 9), newest do
    local i = passed % 10 * 3
    c.total, c.failed, c.slow = c.total - s[i + 1], c.failed - s[i + 2], c.slow - s[i + 3]
    s[i + 1], s[i + 2], s[i + 3] = 0, 0, 0
  end
  c.at = math.max(c.at, newest)
  local i = c.at % 10 * 3
  s[i + 1], s[i + 2], s[i + 3] = s[i + 1] + successes + 1, s[i + 2] + bad, s[i + 3] + late
  c.total = c.total + successes + 1
  pieces[1] = {HEAD, struct.pack(SLICES, unpack(s, 1, 30))}
end
if c.mode == HALF then
  trial()
elseif not ignored and (c.mode == CLOSED or c.mode == MEASURING) then
  changed = true
  if calls > 0 then into_ring() else into_slices() end
  c.failed, c.slow = c.failed + bad, c.slow + late
  local reached = c.total >= minimum and (c.failed * PPM >= failed_ppm * c.total
    or (slow_ppm > 0 and c.slow * PPM >= slow_ppm * c.total))
  c.strained = reached and 1 or 0
  if reached and c.mode == CLOSED and may_open == 1 then move(OPEN, jitter, asked) end
end
return answer(1)
"""
)

FORCE_LUA = (
    PRELUDE_LUA
    + r"""
move(a[21], a[22], 0)
return answer(1)
"""
)
