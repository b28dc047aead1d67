"""A server that does as it likes with every message learns nothing but a sum.

Two things would be enough to read one site's update: shares of its seed and of its mask key from
sites that took part, or two lists of uploads that sites signed as the only one. Neither ever
happens, whatever is changed, left out, repeated, replayed or told differently to each site.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from secure_sums import HASH, Sites, names, vector_identity, vector_secrets

from fedvol.errors import (
    AdvertInvalidError,
    PartiesInvalidError,
    SecureSumError,
    SecureSumOrderError,
    ShareInvalidError,
    SurvivorsDisputedError,
    TooFewPartiesError,
)
from fedvol.privacy.secagg import Advert, Party, Terms, Unmasking, context_digest, party
from fedvol.types import Digest, SiteId

TERMS = Terms(num_values=4, bits=32, norm_bound=1.0, max_weight=1)
NUM = 4
SITES = names(NUM)
OTHER_CONTEXT = context_digest(
    job="job-1", round_index=6, roster=HASH, model=HASH, terms=TERMS.digest
)


@dataclass(kw_only=True)
class Learned:
    """All that an active server got out of honest sites."""

    unmasked: dict[SiteId, Unmasking] = field(default_factory=dict[SiteId, Unmasking])
    signed: dict[SiteId, list[bytes]] = field(default_factory=dict[SiteId, list[bytes]])
    refusals: set[type[SecureSumError]] = field(default_factory=set[type[SecureSumError]])

    def require_nothing_of_one_site(self) -> None:
        for site in SITES:
            seeds = [one for one in self.unmasked.values() if site in one.seed_shares]
            keys = [one for one in self.unmasked.values() if site in one.key_shares]
            assert not (seeds and keys), f"both kinds of shares of {site}"
        for site, signatures in self.signed.items():
            assert len(signatures) <= 1, f"{site} signed {len(signatures)} lists"


class Server:
    """Plays one sum with four honest sites and changes messages by chance.

    Args:
        seed: Of the changes.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.everybody = Sites(terms=TERMS, sites=SITES)
        self.learned = Learned()

    def play(self) -> Learned:
        adverts = self.everybody.adverts()
        old = [self.everybody.party(site, context=OTHER_CONTEXT).advertise() for site in SITES]
        sealed: dict[SiteId, Mapping[SiteId, bytes]] = {}
        for site in SITES:
            shown = self.changed_adverts(adverts, old=old)
            self.ask(site, lambda at, shown=shown: sealed.update({at._site: at.share(shown)}))
        for site in SITES:
            received = {of: shares[site] for of, shares in sealed.items() if site in shares}
            got = self.changed_shares(received)
            self.ask(site, lambda at, got=got: at.masks(got))
        for site in SITES:
            told = self.changed_list()
            self.ask(site, lambda at, told=told: self.sign(at, told))
        signatures = {
            site: given[0] for site, given in self.learned.signed.items() if len(given) == 1
        }
        for site in SITES:
            given = self.changed_signatures(signatures)
            self.ask(site, lambda at, given=given: self.unmask(at, given))
        return self.learned

    def ask(self, site: SiteId, step: Callable[[Party], object]) -> None:
        """One step at one site, now and then twice."""
        for _ in range(2 if self.rng.random() < 0.1 else 1):
            try:
                step(self.everybody.parties[site])
            except SecureSumError as error:
                self.learned.refusals.add(type(error))

    def sign(self, at: Party, told: Sequence[SiteId]) -> None:
        self.learned.signed.setdefault(at._site, []).append(at.sign(told))

    def unmask(self, at: Party, got: Mapping[SiteId, bytes]) -> None:
        given = at.unmask(got)
        assert at._site not in self.learned.unmasked, "a site unmasked twice"
        self.learned.unmasked[at._site] = given

    def changed_adverts(self, adverts: Sequence[Advert], *, old: Sequence[Advert]) -> list[Advert]:
        shown = list(adverts)
        if self.rng.random() < 0.75:
            return shown
        index, other = self.rng.sample(range(NUM), 2)
        name = self.rng.choice(("share_key", "mask_key", "commitment", "signature", "site"))
        match self.rng.randrange(7):
            case 0:
                del shown[index]
            case 1:
                shown.append(shown[index])
            case 2:
                shown[index] = old[index]
            case 3 if name != "site":
                flipped = self.flipped(getattr(shown[index], name))
                shown[index] = replace(shown[index], **{name: flipped})
            case 4:
                taken = getattr(shown[other], name)
                shown[index] = replace(shown[index], **{name: taken})
            case 5:
                shown[index] = replace(shown[index], site=SiteId("nobody"))
            case _:
                self.rng.shuffle(shown)
        return shown

    def changed_shares(self, received: Mapping[SiteId, bytes]) -> dict[SiteId, bytes]:
        shares = dict(received)
        if not shares or self.rng.random() < 0.75:
            return shares
        site, other = self.rng.choice(list(shares)), self.rng.choice(list(shares))
        match self.rng.randrange(5):
            case 0:
                del shares[site]
            case 1:
                shares[site] = self.flipped(shares[site])
            case 2:
                shares[site], shares[other] = shares[other], shares[site]
            case 3:
                shares[SiteId("nobody")] = shares[site]
            case _:
                shares[site] = shares[site][:-1]
        return shares

    def changed_list(self) -> list[SiteId]:
        told = list(SITES)
        if self.rng.random() < 0.3:
            return told
        match self.rng.randrange(4):
            case 0 | 1:
                del told[self.rng.randrange(NUM)]
            case 2:
                told.append(self.rng.choice((SiteId("nobody"), told[0])))
            case _:
                del told[0], told[0]
        return told

    def changed_signatures(self, signatures: Mapping[SiteId, bytes]) -> dict[SiteId, bytes]:
        got = dict(signatures)
        if not got or self.rng.random() < 0.5:
            return got
        site, other = self.rng.choice(list(got)), self.rng.choice(list(got))
        match self.rng.randrange(4):
            case 0:
                del got[site]
            case 1:
                got[site] = self.flipped(got[site])
            case 2:
                got[site], got[other] = got[other], got[site]
            case _:
                got[SiteId("nobody")] = got[site]
        return got

    def flipped(self, held: bytes) -> bytes:
        at = self.rng.randrange(len(held))
        return held[:at] + bytes([held[at] ^ (1 << self.rng.randrange(8))]) + held[at + 1 :]


def play(trials: range) -> tuple[set[type[SecureSumError]], int]:
    """Refusals that were met, and sums that a site unmasked."""
    refusals: set[type[SecureSumError]] = set()
    unmasked = 0
    for seed in trials:
        learned = Server(seed).play()
        learned.require_nothing_of_one_site()
        refusals |= learned.refusals
        unmasked += bool(learned.unmasked)
    return refusals, unmasked


REFUSALS = {
    TooFewPartiesError,
    AdvertInvalidError,
    PartiesInvalidError,
    ShareInvalidError,
    SecureSumOrderError,
    SurvivorsDisputedError,
}


@pytest.mark.parametrize(
    "trials", [range(500), pytest.param(range(500, 5500), marks=pytest.mark.full)]
)
def test_nothing_of_one_site_is_learned_whatever_is_changed(trials: range) -> None:
    refusals, unmasked = play(trials)
    assert refusals == REFUSALS
    assert unmasked > 0  # not everything that is changed matters


def test_without_the_round_of_signatures_a_server_would_learn_of_one_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that the test above is known to see what it is there for."""
    monkeypatch.setattr(party, "_holds", lambda *_, **__: True)
    with pytest.raises(AssertionError, match="both kinds of shares"):
        play(range(200))


# --- each lie by itself -----------------------------------------------------------------------


def shared() -> tuple[Sites, dict[SiteId, Mapping[SiteId, bytes]]]:
    everybody = Sites(terms=TERMS, sites=SITES)
    return everybody, everybody.sealed(everybody.adverts())


def masked() -> Sites:
    everybody, sealed = shared()
    for site, at in everybody.parties.items():
        at.masks({of: shares[site] for of, shares in sealed.items() if of != site})
    return everybody


def test_two_sites_are_no_sum() -> None:
    everybody = Sites(terms=TERMS, sites=SITES)
    adverts = everybody.adverts()
    with pytest.raises(TooFewPartiesError, match="2 parties, and the site asks for 3"):
        everybody.parties[SITES[0]].share(adverts[:2])


def test_fewer_than_the_site_asks_for_are_no_sum() -> None:
    everybody = Sites(terms=TERMS, sites=SITES, min_parties=5)
    with pytest.raises(TooFewPartiesError, match="4 parties, and the site asks for 5"):
        everybody.parties[SITES[0]].share(everybody.adverts())


def test_an_advert_of_an_older_round_is_refused() -> None:
    everybody = Sites(terms=TERMS, sites=SITES)
    adverts = everybody.adverts()
    adverts[2] = everybody.party(SITES[2], context=OTHER_CONTEXT).advertise()
    with pytest.raises(AdvertInvalidError, match="site-02"):
        everybody.parties[SITES[0]].share(adverts)


def test_sites_that_were_sent_two_models_do_not_sum() -> None:
    """The context has the digest of the model each site has loaded."""
    everybody = Sites(terms=TERMS, sites=SITES)
    other = context_digest(
        job="job-1",
        round_index=7,
        roster=HASH,
        model=Digest("0" * 64),
        terms=TERMS.digest,
    )
    adverts = [everybody.parties[site].advertise() for site in SITES[:3]]
    adverts.append(everybody.party(SITES[3], context=other).advertise())
    with pytest.raises(AdvertInvalidError, match="model"):
        everybody.parties[SITES[0]].share(adverts)


def test_a_swapped_key_is_refused() -> None:
    everybody = Sites(terms=TERMS, sites=SITES)
    adverts = everybody.adverts()
    mine = everybody.party(SITES[0]).advertise().mask_key
    adverts[1] = replace(adverts[1], mask_key=bytes(31) + b"\x09")
    with pytest.raises(AdvertInvalidError, match="site-01"):
        everybody.parties[SITES[0]].share(adverts)
    again = Sites(terms=TERMS, sites=SITES)
    adverts = again.adverts()
    adverts[1] = replace(adverts[1], mask_key=mine)
    with pytest.raises(PartiesInvalidError, match="two keys are the same"):
        again.parties[SITES[0]].share(adverts)


def test_a_site_that_is_not_in_the_roster_or_revoked_is_refused() -> None:
    """Members are whom the site's own roster lets take part; of both kinds none is there."""
    everybody = Sites(terms=TERMS, sites=SITES)
    stranger = Party(
        site=SiteId("stranger"),
        context=everybody.context,
        identity=vector_identity("stranger"),
        members={},
        min_parties=3,
        claim=lambda: None,
        secrets=vector_secrets("stranger"),
    )
    with pytest.raises(PartiesInvalidError, match="stranger"):
        everybody.parties[SITES[0]].share([*everybody.adverts(), stranger.advertise()])


def test_a_site_sees_its_own_advert_unchanged() -> None:
    everybody = Sites(terms=TERMS, sites=SITES)
    adverts = everybody.adverts()
    with pytest.raises(PartiesInvalidError, match="own advert"):
        everybody.parties[SITES[0]].share(adverts[1:])


def test_sites_that_saw_other_parties_cannot_open_each_others_shares() -> None:
    everybody = Sites(terms=TERMS, sites=SITES)
    adverts = everybody.adverts()
    sealed = {site: everybody.parties[site].share(adverts) for site in SITES[:3]}
    sealed[SITES[3]] = everybody.parties[SITES[3]].share(adverts[1:])
    first = SITES[1]
    with pytest.raises(ShareInvalidError, match="site-03"):
        everybody.parties[first].masks(
            {of: shares[first] for of, shares in sealed.items() if of != first}
        )


def test_two_lists_of_uploads_are_not_both_signed() -> None:
    at = masked().parties[SITES[0]]
    at.sign(SITES)
    with pytest.raises(SecureSumOrderError):
        at.sign(SITES[:3])


def test_a_site_is_never_both_there_and_lost() -> None:
    """A server that says both of one site reads its update where this is not asked."""
    everybody = masked()
    signatures = {site: everybody.parties[site].sign(SITES) for site in SITES[1:]}
    signatures[SITES[0]] = everybody.parties[SITES[0]].sign(SITES[:3])
    with pytest.raises(SurvivorsDisputedError, match="1 parties signed"):
        everybody.parties[SITES[0]].unmask(signatures)
    given = everybody.parties[SITES[1]].unmask(signatures)
    assert not set(given.seed_shares) & set(given.key_shares)


def test_a_dropped_out_site_that_is_said_to_have_uploaded_gives_its_seed_alone() -> None:
    """And its late upload stays masked by the pairs: of one site one kind of shares is given."""
    everybody = masked()
    signatures = {site: everybody.parties[site].sign(SITES[:3]) for site in SITES[:3]}
    for site in SITES[:3]:
        given = everybody.parties[site].unmask(signatures)
        assert set(given.key_shares) == {SITES[3]}
        assert set(given.seed_shares) == set(SITES[:3])


def test_fewer_uploads_than_the_threshold_are_not_signed() -> None:
    with pytest.raises(TooFewPartiesError, match="2 parties are left, and 3 are needed"):
        masked().parties[SITES[0]].sign(SITES[:2])


def test_a_second_upload_in_one_round_is_refused_by_the_sites_own_note() -> None:
    claimed: list[int] = []

    def claim() -> None:
        if claimed:
            raise SecureSumOrderError("round 7", "it was uploaded before", "Play the next round.")
        claimed.append(7)

    def begun() -> tuple[Party, dict[SiteId, bytes]]:
        everybody = Sites(terms=TERMS, sites=SITES)
        site = SITES[0]
        everybody.parties[site] = Party(
            site=site,
            context=everybody.context,
            identity=vector_identity(site),
            members=everybody.members,
            min_parties=3,
            claim=claim,
        )
        sealed = everybody.sealed(everybody.adverts())
        return everybody.parties[site], {
            of: shares[site] for of, shares in sealed.items() if of != site
        }

    first, shares = begun()
    first.masks(shares)
    again, shares = begun()  # as after a restart: a new party, the same note
    with pytest.raises(SecureSumOrderError, match="uploaded before"):
        again.masks(shares)


def test_after_an_error_a_site_takes_part_no_further() -> None:
    everybody, sealed = shared()
    at, site = everybody.parties[SITES[0]], SITES[0]
    good = {of: shares[site] for of, shares in sealed.items() if of != site}
    with pytest.raises(ShareInvalidError):
        at.masks({**good, SITES[1]: b"no share"})
    with pytest.raises(SecureSumOrderError):
        at.masks(good)
