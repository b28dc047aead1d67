"""What people read to each other."""

import re

from consortium import entry, identity, node

from fedvol.identity import site_fingerprint
from fedvol.identity.fingerprint import fingerprint


def test_has_eight_groups_of_four_digits() -> None:
    assert re.fullmatch("([0-9a-f]{4} ){7}[0-9a-f]{4}", identity("a").public.fingerprint)


def test_differs_by_kind_and_by_every_part() -> None:
    shown = {
        fingerprint("identity", b"ab", b"c"),
        fingerprint("site", b"ab", b"c"),
        fingerprint("identity", b"a", b"bc"),
        fingerprint("identity", b"ab", b"d"),
    }
    assert len(shown) == 4


def test_of_a_site_covers_its_name_and_both_keys() -> None:
    one = entry("a")
    assert one.fingerprint == site_fingerprint("a", identity=one.identity, node=one.node)
    shown = {
        one.fingerprint,
        site_fingerprint("b", identity=one.identity, node=one.node),
        site_fingerprint("a", identity=identity("b").public, node=one.node),
        site_fingerprint("a", identity=one.identity, node=node("b").public),
    }
    assert len(shown) == 4
