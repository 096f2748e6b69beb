"""What texts are made of, whatever they are."""

from hypothesis import given
from hypothesis import strategies as st

from services.nlu import features


def test_normal_text_has_no_case_and_single_spaces() -> None:
    assert features.normal("  Where\tIS\n my  PARCEL ") == "where is my parcel"
    assert features.normal("ＦＵＬＬ　Straße") == "full strasse"
    assert features.normal(" \n\u3000 ") == ""


def test_words_come_alone_and_in_pairs() -> None:
    assert features.words("where's my 2nd card?") == [
        "where", "s", "my", "2nd", "card", "where s", "s my", "my 2nd", "2nd card",
    ]  # fmt: skip
    assert features.words("🎉 ?!") == []


def test_grams_stay_within_a_token() -> None:
    assert features.grams("ab c") == [" a", "ab", "b ", " ab", "ab ", " ab ", " c", "c ", " c "]
    assert features.grams("🎉") == [" 🎉", "🎉 ", " 🎉 "]


@given(st.text(max_size=3_000))
def test_any_text_becomes_terms_of_one_line(text: str) -> None:
    normal = features.normal(text)
    assert len(normal) <= features.TEXT_LENGTH_MAX
    assert normal == " ".join(normal.split())
    assert not any("\n" in term for term in features.words(normal) + features.grams(normal))
    assert features.words(normal) == features.words(features.normal(text))
