"""How an answer is announced and denied, language by language.

A new language is a row of the table. Stems are looked for before any pattern runs, so that a row costs nothing in a
text of another language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

__all__ = ["COPULA", "DENIAL", "LANGUAGES", "PARTICLE", "Language", "languages_of"]

# Between "answer" and its colon or its value: no `!`, which would make `!= 3` of the answer 3.
_LOOSE = r"[\s*_\"'`\u201d)\]]{0,4}"


@dataclass(frozen=True)
class Language:
    """The words around an answer.

    Attributes:
        code: ISO 639-1.
        stems: lower-case texts of which a text that states an answer has at least one.
        nouns: the words for "answer", as a pattern.
        copulas: the words between noun and answer, as a pattern; empty: only a colon does.
        is_spaced: whether words are parted by spaces, so that the patterns are whole words.
    """

    code: str
    stems: tuple[str, ...]
    nouns: str
    copulas: str
    is_spaced: bool = True

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What ends where the answer begins: "The answer to it is ", "Answer: "."""
        before, after = (r"(?<![^\W_])", r"(?![^\W_])") if self.is_spaced else ("", "")
        copula = rf"[^.\n:\uff1a=\u3002]{{0,80}}?{before}(?:{self.copulas}){after}" if self.copulas else r"(?!)"
        return re.compile(
            rf"{before}(?:{self.nouns}){after}(?:{copula}|(?={_LOOSE}[:\uff1a=])){_LOOSE}?[:\uff1a=]?[*_ \t]*",
            re.IGNORECASE,
        )

    @cached_property
    def heading(self) -> re.Pattern[str]:
        """A line of its own, or bold words, that announce an answer without a colon: ``### Final Answer``."""
        before = r"(?:[^\W\d]{1,12}[ \t]+){0,3}" if self.is_spaced else r"[^\W\d\s]{0,6}?"
        words = rf"{before}(?:{self.nouns})(?:[ \t]+(?:final[eo]?|finale))?(?:[ \t]+(?:{self.copulas or '(?!)'}))?"
        return re.compile(
            rf"^[ \t]*#{{1,6}}[^\w\n]*(?:{words})[*_ \t]*[:\uff1a]?[*_# \t]*$"
            rf"|^[^\w\n]{{0,6}}{words}[*_ \t]*$"
            rf"|^[ \t]*\*\*(?:{words})\*\*(?=[ \t]+[\d$\\(-])",
            re.IGNORECASE | re.MULTILINE,
        )


LANGUAGES: tuple[Language, ...] = (
    Language("en", ("answer", "final result", "final value"), "answers?|final (?:result|value)", "is|are|equals"),
    Language(
        "zh",
        ("答", "解"),
        "答案|答(?=[:\uff1a])",
        "应该是|就是|是|为|為|等于|等於",
        False,
    ),
    Language("ja", ("答", "解答"), "答え|解答|回答", "は|が", False),
    Language("ko", ("답",), "정답|답", "은|이", False),
    Language("es", ("respuesta", "soluci"), "respuestas?|soluci[oó]n", "es|son|sería"),
    Language("fr", ("réponse", "reponse"), "réponses?|reponses?", "est|sont|vaut"),
    Language("de", ("antwort", "lösung"), "antwort(?:en)?|lösung|endergebnis", "ist|sind|lautet|beträgt"),
    Language("it", ("rispost",), "rispost[ae]", "è|sono"),
    Language("pt", ("resposta",), "respostas?", "é|são"),
    Language("nl", ("antwoord",), "antwoord(?:en)?", "is|zijn"),
    Language("ru", ("ответ",), "ответ", "равен|это|[-\u2013\u2014]"),
    Language("uk", ("відповідь",), "відповідь", "дорівнює|це|[-\u2013\u2014]"),
    Language("pl", ("odpowied",), "odpowied(?:ź|z|zi[ąa])", "to|jest|wynosi"),
    Language("cs", ("odpově",), "odpověď", "je"),
    Language("sv", ("svar",), "svar(?:et)?", "är|er"),
    Language("ro", ("răspuns", "raspuns"), "răspuns(?:ul)?|raspuns(?:ul)?", "este|e"),
    Language("tr", ("cevap", "cevab", "yanıt"), "cevap|cevabı|yanıt", ""),
    Language("vi", ("đáp án", "đáp số", "câu trả lời"), "đáp án|đáp số|câu trả lời", "là"),
    Language("id", ("jawaban",), "jawaban(?:nya)?", "adalah|ialah"),
    Language("ar", ("الجواب", "الإجابة"), "الجواب|الإجابة", "هو|هي"),
    Language("he", ("תשובה",), "ה?תשובה", "היא"),
    Language("fa", ("پاسخ",), "پاسخ", ""),
    Language("hi", ("उत्तर",), "उत्तर", "है", False),
    Language("th", ("คำตอบ",), "คำตอบ", "คือ", False),
    Language("el", ("απάντηση",), "απάντηση", "είναι"),
)  # fmt: skip

_STEMS = tuple((stem, stem.isascii(), language) for language in LANGUAGES for stem in language.stems)


def languages_of(text: str) -> list[Language]:
    """The languages in which a text may state an answer, each once."""
    lowered, is_ascii = text.casefold(), text.isascii()
    found = [language for stem, is_plain, language in _STEMS if (is_plain or not is_ascii) and stem in lowered]
    return list(dict.fromkeys(found))


COPULA = re.compile(
    r"(?:\b(?:is|are|was|were|equals?|es|son|est|sont|ist|sind|beträgt|lautet|è|é)\b"
    r"|等于|等於|是|为|為|共?有|は)(?:\s+(?:equal\s+to|exactly|therefore|thus|then))?"
    r"|(?<![<>!=\\:])=(?!=)",
    re.IGNORECASE,
)
"""What stands between a subject and its value in a sentence."""

PARTICLE = re.compile(
    r"[ \t]*(?:(?:です|である|でした|だ|입니다|이다|이에요"
    r"|分钟|分鐘|小时|小時|時間|分間|秒|天|年|月|周|岁|歲"
    r"|元|円|圆|角|美元|원|厘米|公里|千米|毫米|平方米|米|千克|公斤"
    r"|克|吨|升|毫升|度|个|個|颗|顆|只|隻|条|本|张|块|名|位|人|次|种|種|件"
    r"|支|枚|枝|倍|棵|辆|箱|杯|碗|匹|回|개|명|시간|분|살|번|บาท"
    r"|है)[ \t]*){1,3}"
)
"""What may follow a number in languages that write no space there: measure words and the verb at the end."""

DENIAL = re.compile(
    r"(?<![^\W\d_])(?<!\\)(?:not|no|non|never|neither|nor|none|cannot|can'?t|isn'?t|aren'?t|wasn'?t|doesn'?t|don'?t|won'?t|wrong(?:ly)?"
    r"|incorrect\w{0,4}|false\w{0,2}|invalid\w{0,3}|untrue|mistak\w{1,3}|error|unlikely|impossible|except|unless"
    r"|nicht|kein\w{0,2}|nie|falsch\w{0,2}|unrichtig|ne|n'est|pas|jamais|faux|fausse|nunca|fals[oaie]s?|err[oó]ne[oa]|equivocad[oa]"
    r"|sbagliat[oaei]|errat[oa]|errad[oa]|não|nem|niet|geen|onjuist|fout|fel|feil|forkert|inte|ikke|ej|nie|błędn\w{0,3}|zł[yae]"
    r"|není|špatn\w{0,2}|yanlış|değil|sai|không|salah|bukan|tidak|väärin|rossz|nem|greșit|nu"
    r"|не|нет|неверн\w{0,3}|ошиб\w{0,4}|δεν|λάθος)(?![^\W\d_])"
    r"|[不没沒非无無错錯误誤未]|ない|違|間違|아니|틀|ليس|خطأ|نیست|नहीं|गलत|ไม่|ผิด"
    r"|[≠¬]|\\(?:not|neq?|neg|lnot)(?![A-Za-z])|!=",
    re.IGNORECASE,
)
"""A word that takes back or denies what stands beside it."""
