"""The simulated VMware host.

Written from the specification alone: it shares :mod:`vmtools.constants`, :mod:`vmtools.errors` and :mod:`vmtools.wire`
with the guest side and nothing else, so that the two can't agree on the same mistake.  Floors, top down:

``cli``; ``host``, ``guests`` and ``recording`` (all of it as one object, for tests), ``run`` and ``tracer`` (programs
whose instructions trap), ``kvm`` (the exits of a virtual CPU), ``server``, ``control`` and ``client`` (a machine
behind a UNIX socket), ``inprocess`` (with no trap and no socket), ``transcript`` and ``decode`` (what passed, recorded
and read), ``faults`` (what goes wrong on purpose), ``backdoor`` (one register frame in, one out), ``channels`` (the
GuestRPC message channel, host half), ``rpci`` (what the commands mean), ``machine`` (the state).
"""
