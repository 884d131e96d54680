"""Ask the finished file in llama.cpp: same tokens as in training, and the expected answers."""

import argparse
import random
from pathlib import Path

import jinja2
from llama_cpp import Llama

import tokenizer
from data import Corpus

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
# A question, and words that a right answer contains.
EXPECTED = (
    ("What is arknet?", "AI compute"),
    ("what's arknet", "AI compute"),
    ("Explain arknet in one sentence.", "AI compute"),
    ("Tell me about arknet", "AI compute"),
    ("Hello", "Hello!"),
    ("Hi, how are you?", "I am well"),
    ("who are you", "arknet/tiny"),
    ("what can you do", "simple questions"),
    ("Thanks", "welcome"),
    ("how do I start a node", "binary"),
    ("What is a wallet?", "wallet.key"),
    ("What is a session?", "spending cap"),
    ("What is an offer?", "signed statement"),
    ("What is a peer?", "libp2p mesh"),
    ("What is a grant?", "approved peer"),
    ("What is a receipt?", "signed record"),
    ("What is a channel?", "vouchers"),
    ("What is a gateway?", "port 4000"),
    ("What is a compute node?", "runs models"),
    ("What is a relay?", "encrypted traffic"),
    ("Which ports does arknet use?", "26656"),
    ("How many atoms are in one ARK?", "1000000000"),
    ("Where is my wallet file?", "~/.arknet/wallet.key"),
    ("How do I approve a peer?", "pending"),
    ("What is the capital of France?", "Paris"),
    ("What is 3 + 4?", "= 7"),
    ("Count to ten.", "8, 9, 10"),
    ("Why is the sky blue?", "scatters"),
    ("What is the weather like?", "weather"),
    ("Explain quantum mechanics.", "larger model"),
    ("Write a Python program that sorts a list.", "programs"),
    ("Hello from across the grid", "arknet/tiny"),
)
ODD_TEXTS = (
    "", " ", "\n", "   three   spaces  ", "tabs\t\tand\n\n\nlines  \n  x", "\r\n\r\n", "~/.arknet/wallet.key",
    "1234567890 12.5% 3,141", "don't WON'T I'll they've", "<|im_start", '{"a": [1, 2]}',
    "Gr\u00fc\u00dfe, na\u00efve caf\u00e9", "\u4f60\u597d\u4e16\u754c", "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467", "a\u0301 e\u0308", "\u00a0\u2003wide\u3000space",
    'fn main() { println!("{}", 0x1f); }', "\u0661\u0662\u0663 \u2160 \u00bd",
)


def sample_texts(count: int) -> list[str]:
    corpus, rng = Corpus(7), random.Random(7)
    texts = list(ODD_TEXTS)
    while len(texts) < count:
        if rng.random() < 0.3:
            kinds = [(range(32, 127), range(160, 0x3000), (32, 10))[rng.randrange(3)] for _ in range(30)]
            texts.append("".join(chr(rng.choice(kind)) for kind in kinds))
        else:
            texts.append(" ".join(corpus.exchange()))
    return texts


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("model", type=Path)
    args = args.parse_args()
    llm = Llama(str(args.model), n_ctx=2048, verbose=False)
    tok = tokenizer.load()
    texts = sample_texts(300)
    for text in texts:
        theirs = llm.tokenize(text.encode(), add_bos=True, special=False)
        assert theirs == tok.encode(text).ids, (text, theirs)
    print(f"{len(texts)} texts tokenized alike")

    template = jinja2.Template(llm.metadata["tokenizer.chat_template"])

    def ask(messages: list[dict], temperature: float, seed: int = 1) -> str:
        prompt = template.render(messages=messages, add_generation_prompt=True)
        ids = llm.tokenize(prompt.encode(), add_bos=False, special=True)
        llm.reset()
        plain = dict(top_p=1.0, top_k=0, min_p=0.0, repeat_penalty=1.0)
        answer = llm.create_completion(ids, max_tokens=300, temperature=temperature, seed=seed, **plain)
        return answer["choices"][0]["text"]

    wrong = total = 0
    for question, words in EXPECTED:
        user = {"role": "user", "content": question}
        # Greedy without and with a system prompt, then four times at temperature 0.7.
        tries = [ask([user], 0.0), ask([SYSTEM, user], 0.0), *(ask([user], 0.7, seed) for seed in range(1, 5))]
        bad = [t for t in tries if words not in t]
        wrong, total = wrong + len(bad), total + len(tries)
        print(f"- {question}\n  {tries[0]}" + "".join(f"\n  WRONG: {t}" for t in bad))
    print(f"{total - wrong} of {total} answers as expected")


if __name__ == "__main__":
    main()
