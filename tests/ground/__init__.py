"""The ground that tests stand on: real redis-server processes and a TCP fault proxy.

Standard library only, and nothing of backendkit: a fault in the library must not hide in what tests
it.

===================  ==============================================================
``waiting``          `eventually`: the one place that sleeps, and says what it awaited
``resp``             `Wire`: a minimal RESP2 client, for set-up and inspection
``ports``            free loopback ports, held against other sessions
``lifeline``         a process dies with the process that started it
``process``          `Process`: start, signal and reap one program, by a pid that is ours
``servers``          `Server`: one redis-server
``topology``         `Topology`: servers that start and stop together
``single``           `Single`, `SecureSingle` (ACL users, TLS), `UnixSocket`
``sentinel``         `SentinelGroup`
``cluster``          `ClusterGroup`; ``slots`` and ``slot_move`` beside it
``proxy``            `FaultProxy`; ``faults``, ``link`` and ``requests`` beside it
``loops``            event-loop stalls, threads, forks, subprocesses, CPU time
===================  ==============================================================
"""
