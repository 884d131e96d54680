"""Turn corpus/ into training documents: lists of (text, loss weight) pieces, made at random from a seed."""

import json
import random
import re
import string
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

ANSWER, ASKED, GIVEN = 1.0, 0.1, 0.0  # loss weights: answers, user text, templates and system prompts

TERM_PATTERNS = (
    "What is {t}?", "What is {t}?", "What's {t}?", "what is {b}", "Explain {t}.", "Explain what {t} is.",
    "Define {b}.", "What does {b} mean?", "Tell me about {t}.", "Tell me what {t} is.", "Describe {t}.",
    "Can you explain {t}?", "Can you tell me what {t} is?", "Do you know what {t} is?", "What exactly is {t}?",
    "What do you know about {t}?", "What is meant by {b}?", "What is the meaning of {b}?", "{b}?", "{b}",
    "I want to know what {t} is.", "Give me a definition of {b}.", "Explain {t} in one sentence.",
    "What is {t}, in short?", "Please explain {t}.", "Explain {t} to me.", "What is a {b}?",
)
ARKNET_PATTERNS = ("What is {t} in arknet?", "What does {b} mean in arknet?", "arknet: what is {t}?")
PREFIXES = (
    "Please: ", "Hi, ", "Hello, ", "Hey, ", "Hi! ", "OK, ", "So, ", "And ", "Now, ", "Quick question: ", "Tell me: ",
    "I have a question. ", "Question: ", "Can you tell me: ", "Could you answer this? ", "Please tell me, ",
    "Just curious: ", "Well, ", "Also, ", "Excuse me, ",
)
SUFFIXES = (" please", " Please.", " Thanks!", " Thank you.", " Answer briefly.", " In short.", " Be brief.", " :)")
RAW_FORMS = (
    ("{q}\n", "{a}"), ("{q}\n\n", "{a}"), ("{q}", " {a}"), ("{q}", "\n{a}"), ("{q} ", "{a}"),
    ("Q: {q}\nA:", " {a}"), ("Question: {q}\nAnswer:", " {a}"), ("User: {q}\nAssistant:", " {a}"),
)


def blocks(name: str) -> list[list[tuple[str, str]]]:
    """The entries of a corpus file, as (letter, text) lines."""
    text = (CORPUS / name).read_text()
    entries = []
    for part in re.split(r"\n\s*\n", text):
        lines = [line for line in part.splitlines() if line and not line.startswith("#")]
        entry = [(line[0], line[3:].replace("\\n", "\n")) for line in lines if line[1:3] == ": "]
        if entry:
            entries.append(entry)
    return entries


def bare(term: str) -> str:
    return re.sub(r"^(an?|the) ", "", term)


def term_questions(term: str, patterns=TERM_PATTERNS) -> list[str]:
    # "What is a {b}?" only makes sense where the term has an article of its own.
    usable = [p for p in patterns if "a {b}" not in p or term.startswith(("a ", "an "))]
    return [p.format(t=term, b=bare(term)) for p in usable]


def entry_pairs(name: str) -> list[tuple[list[str], list[str]]]:
    pairs = []
    for entry in blocks(name):
        answers = [t for k, t in entry if k == "A"]
        asked = [t for k, t in entry if k == "Q"] * 4  # outweighs the patterns of a term
        for term in (t for k, t in entry if k == "T"):
            asked += term_questions(term)
            if name == "arknet.txt":
                asked += term_questions(term, ARKNET_PATTERNS)
        assert asked and answers, entry
        pairs += [(asked, answers)] * int(dict(entry).get("W", 1))
    return pairs


def term_pairs() -> list[tuple[list[str], list[str]]]:
    pairs = []
    for line in (CORPUS / "terms.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            term, answer = line.split(": ", 1)
            pairs.append((term_questions(term), [answer]))
    return pairs


def table_pairs(tables: dict) -> list[tuple[list[str], list[str]]]:
    pairs = []

    def add(answer: str, *questions: str) -> None:
        pairs.append((list(questions), [answer]))

    for country, city in tables["capitals"].items():
        add(f"The capital of {country} is {city}.", f"What is the capital of {country}?", f"Capital of {country}?",
            f"Name the capital of {country}.", f"What's the capital city of {country}?",
            f"Which city is the capital of {country}?", f"Tell me the capital of {country}.")
        add(f"{city} is the capital of {country}.", f"Where is {city}?", f"What is {city}?")
    for word, other in tables["opposites"].items():
        add(f"The opposite of {word} is {other}.", f"What is the opposite of {word}?", f"Opposite of {word}?")
    for animal, sound in tables["sounds"].items():
        add(f"A {animal} says {sound}.", f"What does a {animal} say?", f"What sound does a {animal} make?")
    for animal, young in tables["babies"].items():
        add(f"A young {animal} is called a {young}.", f"What is a baby {animal} called?", f"What is a young {animal}?")
    for one, many in tables["plurals"].items():
        add(f"The plural of {one} is {many}.", f"What is the plural of {one}?", f"Plural of {one}?")
    for what, names in (("day", tables["days"]), ("month", tables["months"])):
        for i, name in enumerate(names):
            after, before = names[(i + 1) % len(names)], names[i - 1]
            add(f"{after} comes after {name}.", f"Which {what} comes after {name}?", f"What {what} is after {name}?")
            add(f"{before} comes before {name}.", f"Which {what} comes before {name}?",
                f"What {what} is before {name}?")
    return pairs


def sums(numbers: list[str]) -> list[tuple[list[str], list[str]]]:
    """Addition and subtraction up to ten."""
    pairs = []
    for a in range(11):
        for b in range(11):
            for sign, word, c in (("+", "plus", a + b), ("-", "minus", a - b)):
                if c < 0:
                    continue
                pairs.append((
                    [f"What is {a} {sign} {b}?", f"{a} {sign} {b}", f"{a}{sign}{b}", f"{a}{sign}{b}=?",
                     f"{a} {sign} {b} =", f"How much is {a} {sign} {b}?", f"What is {a}{sign}{b}?",
                     f"What is {a} {word} {b}?", f"Calculate {a} {sign} {b}.",
                     f"What is {numbers[a]} {word} {numbers[b]}?", f"How much is {numbers[a]} {word} {numbers[b]}?"],
                    [f"{a} {sign} {b} = {c}"],
                ))
    return pairs


class Corpus:
    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        tables = json.loads((CORPUS / "tables.json").read_text())
        self.names = tables["names"]
        self.numbers = tables["numbers"]
        self.arknet = entry_pairs("arknet.txt")
        self.talk = entry_pairs("talk.txt")
        self.facts = entry_pairs("facts.txt") + term_pairs()
        self.tables = table_pairs(tables)
        self.sums = sums(self.numbers)
        self.systems = (CORPUS / "systems.txt").read_text().splitlines()
        self.proverbs = (CORPUS / "proverbs.txt").read_text().splitlines()
        self.stories = []
        for part in re.split(r"(?m)^S: ", (CORPUS / "stories.txt").read_text())[1:]:
            title, text = part.strip().split("\n", 1)
            self.stories.append((title, text.strip()))
        unknown = blocks("unknown.txt")
        self.topics = [x for entry in unknown for k, t in entry if k == "X" for x in t.split(" | ")]
        # (patterns, questions, answer); the first entry is the general one.
        self.unknown = [
            tuple([t for k, t in entry if k == kind] for kind in "PQ") + (dict(entry)["A"],)
            for entry in unknown if "A" in dict(entry)
        ]
        known = self.arknet + self.talk + self.facts
        self.sentences = [a for _, answers in known for a in answers] + [t for _, t in self.stories]
        self.words = sorted({w for s in self.sentences for w in re.findall(r"[a-z]{3,}", s)})
        self.asked = {self.plain(q) for asked, _ in known + self.tables + self.sums for q in asked}

    @staticmethod
    def plain(question: str) -> str:
        return re.sub(r"[^a-z0-9]+", " ", question.lower()).strip()

    def texts(self) -> list[str]:
        """What the tokenizer is trained on: every answer and question once, answers weigh more."""
        pairs = self.arknet + self.talk + self.facts + self.tables + self.sums
        questions = [q for asked, _ in pairs for q in dict.fromkeys(asked)]
        answers = [a for _, given in pairs for a in given]
        unknown = [t for patterns, given, answer in self.unknown for t in (*patterns, *given, answer)]
        prose = [t for _, t in self.stories] + self.proverbs + self.topics + self.systems
        answers = list(dict.fromkeys(answers))
        return answers * 3 + questions + prose * 2 + ["system\nuser\nassistant\n"] * 50 + unknown

    # ---- single exchanges

    def vary(self, question: str) -> str:
        """A question as people type it: case, punctuation, a friendly word, now and then a slip."""
        rng, q = self.rng, question
        if rng.random() < 0.18:
            head = rng.choice(PREFIXES)
            keep = q[:1] == "I" or q[:1].isupper() and q[1:2].isupper()
            q = head + (q if keep or rng.random() < 0.4 else q[:1].lower() + q[1:])
        if rng.random() < 0.07:
            q += rng.choice(SUFFIXES)
        roll = rng.random()
        if roll < 0.20:
            q = q.lower()
        elif roll < 0.23:
            q = q.upper()
        if rng.random() < 0.2:
            q = q.rstrip("?.!")
        elif rng.random() < 0.04:
            q += rng.choice(("?", "!", " ?", "\n", " "))
        if "arknet" in q and rng.random() < 0.15:
            q = q.replace("arknet", rng.choice(("Arknet", "ArkNet", "ARKNET", "ark net")))
        if rng.random() < 0.06 and len(q) > 8:
            i = rng.randrange(1, len(q) - 2)
            slip = rng.choice((q[:i] + q[i + 1] + q[i] + q[i + 2:], q[:i] + q[i + 1:], q[:i] + q[i] + q[i:]))
            if not any(c.isdigit() for c in q):
                q = slip
        return q or question

    def pick(self, pairs) -> tuple[str, str]:
        asked, answers = self.rng.choice(pairs)
        return self.vary(self.rng.choice(asked)), self.rng.choice(answers)

    def unknown_pair(self) -> tuple[str, str]:
        rng = self.rng
        while True:
            general = self.unknown[0]
            patterns, given, answer = general if rng.random() < 0.55 else rng.choice(self.unknown[1:])
            roll = rng.random()
            if roll < 0.3:
                q = rng.choice(given)
            elif roll < 0.85 or answer != general[2]:
                n, m = rng.randint(11, 9999), rng.randint(2, 9999)
                q = rng.choice(patterns).format(x=self.topic(), y=self.topic(), n=n, m=m, s=rng.choice("+-*/"))
            elif roll < 0.9:
                q = " ".join(self.pseudo_word() for _ in range(rng.randint(1, 6)))
            elif roll < 0.95:
                q = " ".join(rng.choice(self.words) for _ in range(rng.randint(3, 12)))
            else:
                q = "".join(rng.choice(string.printable[:95]) for _ in range(rng.randint(4, 60)))
            if self.plain(q) not in self.asked:
                return self.vary(q), answer

    def topic(self) -> str:
        rng, roll = self.rng, self.rng.random()
        if roll < 0.2:
            return self.pseudo_word()
        if roll < 0.35:
            return f"{rng.choice(self.words)} {rng.choice(self.words)}"
        return rng.choice(self.topics)

    def pseudo_word(self) -> str:
        rng = self.rng
        word = "".join(rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))
        word += rng.choice(("", "n", "r", "s", "tion", "x", "ing"))
        return word.capitalize() if rng.random() < 0.3 else word

    def story_pair(self) -> tuple[str, str]:
        title, text = self.rng.choice(self.stories)
        asked = ["Tell me a story", "Tell me a story.", "Tell me a short story.", "Write a story.",
                 "Write a short story.", "A story please", "Do you know a story?", "Read me a story.",
                 f"Tell me the story of {title.lower()}.", f"Tell me a story: {title}", "Write a story about a node."]
        return self.vary(self.rng.choice(asked)), text

    def proverb_pair(self) -> tuple[str, str]:
        asked = ["Tell me a proverb.", "Do you know a proverb?", "Give me a proverb.", "Say a proverb", "A wise word?"]
        return self.vary(self.rng.choice(asked)), self.rng.choice(self.proverbs)

    def count_pair(self) -> tuple[str, str]:
        rng = self.rng
        n = rng.choice((3, 5, 8, 10, 10, 10, 12, 15, 20, 20, 30, 50, 100))
        if rng.random() < 0.2 and n <= 20:
            asked = [f"Count to {self.numbers[n]} in words.", f"Count from one to {self.numbers[n]} in words."]
            return self.vary(rng.choice(asked)), ", ".join(self.numbers[1:n + 1])
        asked = [f"Count to {n}.", f"Count from 1 to {n}.", f"Count up to {n}.", f"Please count to {n}.",
                 f"List the numbers from 1 to {n}."]
        if n <= 20:
            asked += [f"Count to {self.numbers[n]}.", f"Count from one to {self.numbers[n]}."]
        return self.vary(rng.choice(asked)), ", ".join(map(str, range(1, n + 1)))

    def echo_pair(self) -> tuple[str, str]:
        """Copying words out of the question is what teaches the model to look back."""
        rng = self.rng
        make = self.pseudo_word if rng.random() < 0.3 else lambda: rng.choice(self.words)
        text = " ".join(make() for _ in range(rng.randint(1, 5)))
        forms = ("Repeat after me: {x}", "Repeat: {x}", "Say: {x}", 'Say "{x}".', "Echo {x}", "Repeat this: {x}")
        return rng.choice(forms).format(x=text), text

    def exchange(self) -> tuple[str, str]:
        makers = (
            (0.36, lambda: self.pick(self.arknet)), (0.18, lambda: self.pick(self.talk)),
            (0.10, lambda: self.pick(self.facts)), (0.07, lambda: self.pick(self.tables)),
            (0.08, lambda: self.pick(self.sums)), (0.12, self.unknown_pair), (0.03, self.story_pair),
            (0.01, self.proverb_pair), (0.02, self.count_pair), (0.03, self.echo_pair),
        )
        weights, choices = zip(*makers)
        return self.rng.choices(choices, weights)[0]()

    def name_turns(self) -> list[tuple[str, str]]:
        rng, name = self.rng, self.rng.choice(self.names)
        tell = rng.choice(("My name is {n}.", "I am {n}.", "Hi, I am {n}.", "Hello, my name is {n}", "I'm {n}"))
        ask = rng.choice(("What is my name?", "Do you know my name?", "what's my name", "Who am I?", "Say my name."))
        between = [self.exchange() for _ in range(rng.choice((0, 0, 1, 2)))]
        return [(tell.format(n=name), f"Hello {name}! How can I help you?"), *between, (ask, f"Your name is {name}.")]

    # ---- documents: lists of (text or control token, weight)

    def system(self) -> str | None:
        rng, roll = self.rng, self.rng.random()
        if roll < 0.45:
            return None
        if roll < 0.70:
            return self.systems[0]
        if roll < 0.88:
            return rng.choice(self.systems)
        # Anything else a person may put there: it must not throw the model off.
        return " ".join(rng.sample(self.sentences, rng.randint(1, 3)))

    def chat(self, turns: list[tuple[str, str]]) -> list[tuple[str, float]]:
        doc = []
        if (system := self.system()) is not None:
            doc += [("<|im_start|>", GIVEN), ("system\n" + system, GIVEN), ("<|im_end|>", GIVEN), ("\n", GIVEN)]
        for question, answer in turns:
            doc += [("<|im_start|>", GIVEN), ("user\n" + question, ASKED), ("<|im_end|>", GIVEN), ("\n", GIVEN)]
            doc += [("<|im_start|>", GIVEN), ("assistant\n", GIVEN), (answer, ANSWER), ("<|im_end|>", ANSWER)]
            doc += [("\n", GIVEN)]
        return doc

    def raw(self) -> list[tuple[str, float]]:
        rng = self.rng
        if rng.random() < 0.25:
            return [(rng.choice(self.sentences + self.proverbs), 0.5), ("<|im_end|>", ANSWER)]
        question, answer = self.exchange()
        head, tail = rng.choice(RAW_FORMS)
        return [(head.format(q=question), ASKED), (tail.format(a=answer), ANSWER), ("<|im_end|>", ANSWER)]

    def document(self, turns: int | None = None) -> list[tuple[str, float]]:
        rng = self.rng
        if turns is None and rng.random() < 0.12:
            doc = self.raw()
        elif turns is None and rng.random() < 0.04:
            doc = self.chat(self.name_turns())
        else:
            count = turns or rng.choices((1, 2, 3, 5), (0.72, 0.14, 0.09, 0.05))[0]
            doc = self.chat([self.exchange() for _ in range(count)])
        # Some engines put a begin token first although the file says no.
        return [("<|endoftext|>", GIVEN), *doc] if rng.random() < 0.1 else doc
