"""The simulated VMware host.

Written from the specification alone: it shares :mod:`vmtools.constants`, :mod:`vmtools.errors` and :mod:`vmtools.wire`
with the guest side and nothing else, so that the two can't agree on the same mistake.  Floors, top down:

``cli``, ``steer``, ``machineargs`` and ``view`` (the commands), ``script`` (what happens when, and what is expected);
``host``, ``guests`` and ``recording`` (all of it as one object, for tests), ``run``, ``tracer`` and ``protect``
(programs whose instructions trap), ``kvm`` (the exits of a virtual CPU), ``server``, ``control`` and ``client`` (a
machine behind a UNIX socket), ``inprocess`` (with no trap and no socket), ``report`` and ``guestops`` (what the guest
told, decoded; what it is asked by VIX and HGFS), ``transcript`` and ``decode`` (what passed, recorded and read),
``faults`` (what goes wrong on purpose), ``snapshot``, ``backdoor`` (one register frame in, one out), ``services`` and
``schedule`` (what the host asks of its own accord, and when), ``channels`` (the GuestRPC message channel, host half),
``rpci`` and ``refusal`` (what the commands mean), ``machine`` and its parts ``clock``, ``devices``, ``options``,
``guestlib`` and ``namespaces`` (the state).
"""
