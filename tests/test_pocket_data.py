"""The rules by which the drawings of icon sets become concepts, copies and held-out parts."""

from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools" / "pocket"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


@pytest.mark.parametrize(
    ("text", "name", "style"),
    [
        ("cat", "cat", "line"),
        ("cat-fill-24", "cat", "filled"),
        ("outline-cat-2", "cat", "line"),
        ("baseline-fire-truck", "fire truck", "filled"),
        ("apple-one", "apple", "line"),
        ("bell-bold-duotone", "bell", "duotone"),
        ("cactus-icon", "cactus", "line"),
        ("round", "round", "line"),
    ],
)
def test_names_without_style_and_counting(text: str, name: str, style: str) -> None:
    import names

    parsed = names.parse(text)
    assert parsed is not None
    assert (parsed.name, parsed.style) == (name, style)


@pytest.mark.parametrize("text", ["24px", "123", "woman-medium-skin-tone", "x", "über"])
def test_no_names(text: str) -> None:
    import names

    assert names.parse(text) is None


def test_alike_names_become_one() -> None:
    import names

    hands = {
        "cat": {"a", "b", "c"},
        "cats": {"d"},
        "glass": {"a", "b"},
        "glasses": {"a", "b"},
        "fire truck": {"a", "b"},
        "truck fire": {"c"},
        "firetruck": {"d"},
        "food apple": {"a"},
        "apple": {"b", "c"},
        "bike": {"a", "b", "c"},
        "bicycle": {"d"},
    }
    concept = names.merge(hands)
    assert concept["cats"] == "cat"
    assert concept["glasses"] == "glasses" != concept["glass"]
    assert {concept[name] for name in ("fire truck", "truck fire", "firetruck")} == {"fire truck"}
    assert concept["food apple"] == "apple"
    assert concept["bike"] == "bicycle"


def test_kinds() -> None:
    import names

    found = names.kinds(
        ["cat", "arrow left", "folder plus", "github", "apple", "flag france"],
        {"github": 5, "apple": 4},
    )
    assert found["cat"] == found["apple"] == "thing"
    assert found["github"] == "brand"
    assert found["flag france"] == "flag"
    assert found["arrow left"] == "arrow"
    assert found["folder plus"] not in ("thing", "brand")


def drawing(hand: str, concept: str, icon: str = "", style: str = "line"):
    from drawings import Drawing

    name = icon or concept
    return Drawing(hand, f"{name}-{style}", hand, hand, name, style, concept, concept, ())


def pictures(count: int) -> np.ndarray:
    """Different blobs."""
    rng = np.random.default_rng(0)
    coarse = rng.random((count, 6, 6)) > 0.5
    pixels = np.zeros((count, 48, 48, 4), np.uint8)
    pixels[..., 3] = 255 * coarse.repeat(8, 1).repeat(8, 2)
    return pixels


def test_copies_are_found_under_padding_and_colour() -> None:
    import copies

    pixels = pictures(4)
    small = np.zeros((48, 48, 4), np.uint8)
    small[12:36, 12:36] = pixels[0, ::2, ::2]  # half the size
    small[..., 0] = 200
    shown = np.concatenate([pixels, small[None]])
    drawn = [drawing(f"hand{n}", "cat") for n in range(5)]
    unit, shared = copies.units(drawn, copies.ink(shown), {"cat": "thing"})
    assert unit[4] == unit[0]
    assert len(set(unit)) == 4
    assert shared == {("hand0", "hand4"): 1}


def test_copies_are_found_in_the_mirror() -> None:
    import copies

    shown = np.concatenate([pictures(3), pictures(1)[:, :, ::-1]])
    features = copies.ink(shown)
    assert not (features[:3] @ features[3] > copies.COPY).any()
    drawn = [drawing(f"hand{n}", "cat") for n in range(4)]
    unit, _ = copies.units(drawn, features, {"cat": "thing"})
    assert unit[3] == unit[0]
    assert len(set(unit)) == 3


def test_one_hand_counts_once_for_one_name() -> None:
    import copies

    drawn = [drawing("a", "cat"), drawing("a", "cat", style="filled"), drawing("a", "cat", "cat-2")]
    unit, _ = copies.units(drawn, copies.ink(pictures(3)), {"cat": "thing"})
    assert unit[0] == unit[1] != unit[2]


def test_dealt_roles_hold_out_sets_drawings_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import deal

    classes = ["cat", "dog"]
    monkeypatch.setattr(deal, "read_demo", lambda: {"Demo": [classes]})
    monkeypatch.setattr(deal, "TRIALS", 300)
    hands = [f"hand{n:02d}" for n in range(30)]
    drawn = [drawing(hand, name) for hand in hands for name in classes]
    drawn += [drawing(hand, "yeti") for hand in ("noto", "game-icons", "hand00")]
    drawn += [drawing(hand, "sphinx") for hand in ("noto", "game-icons", "hand00")]
    families = {d.family: d.family for d in drawn}
    dealt = deal.deal(
        drawn,
        {"cat": "thing", "dog": "thing", "yeti": "thing", "sphinx": "thing"},
        list(range(len(drawn))),
        families,
    )
    assert dealt.datasets == {"Demo": [classes]}
    for name in classes:
        roles = [r for d, r in zip(drawn, dealt.roles, strict=True) if d.concept == name]
        assert deal.LEAST <= roles.count("pool") <= deal.MOST
        assert deal.LEAST <= roles.count("test") <= deal.MOST
        assert roles.count("pretrain") >= deal.SEEN
    unseen = set(dealt.test_families)
    assert {d.family for d, r in zip(drawn, dealt.roles, strict=True) if r == "test"} <= unseen
    seen = {d.family for d, r in zip(drawn, dealt.roles, strict=True) if r in ("pretrain", "pool")}
    assert not seen & unseen
    (held,) = dealt.held_names
    assert not any(
        r == "pretrain" for d, r in zip(drawn, dealt.roles, strict=True) if d.concept == held
    )


def test_what_pretraining_sees_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import build_data
    from deal import Deal

    monkeypatch.setattr(build_data, "NOVEL", tmp_path)
    (tmp_path / "Demo.json").write_text('{"names": ["cat", "yeti", "plus"]}')
    drawn = [drawing("a", "cat"), drawing("b", "cat"), drawing("a", "dog"), drawing("a", "plus")]
    drawn += [drawing("a", "yeti"), drawing("c", "dog")]
    roles = ["pretrain"] * 4 + ["name", "test"]
    dealt = Deal(roles, ["c"], {"Demo": [["cat", "dog"]]}, ["yeti"], 0)
    build_data.report_seen(drawn, {"cat": "thing", "dog": "thing", "plus": "sign"}, dealt)
    said = capsys.readouterr().out
    assert "3 names by 2 sets;\n  2 of them things, 1 signs" in said
    assert "1 with at least 2 drawings" in said
    cells = [cell.strip() for cell in said.splitlines()[-1].split("|")[1:-1]]
    assert cells == ["Demo", "2", "1", "2", "2 of 3", "0 of 0"]


def test_pretraining_keeps_no_picture_of_a_demo_drawing() -> None:
    import copies
    import leaks

    pixels = pictures(4)
    features = copies.ink(np.concatenate([pixels, pixels[:1], pixels[3:, :, ::-1]]))
    roles = ["test", "pretrain", "pretrain", "pool", "pretrain", "pretrain"]
    assert leaks.leaked(roles, features) == [4, 5]


@pytest.mark.slow
def test_what_is_shipped_has_no_copy_of_one_name_but_in_the_mirror() -> None:
    import copies
    import likeness

    test, pool = (likeness.Part.read(part) for part in ("test", "pool"))
    same = np.array(test.names)[:, None] == np.array(pool.names)
    ours, theirs = (copies.ink(part.pixels).float() for part in (test, pool))
    assert not ((ours @ theirs.T > copies.COPY).numpy() & same).any()
    mirrored = (ours @ copies.mirrored(theirs).T > copies.COPY).numpy() & same
    assert mirrored.any(1).sum() == 11  # built before mirrors were looked for
