"""Chat templates in the forms of well-known model families, written for the tests."""

CHATML = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
# Begins with the start token itself; trims; knows no newline behind a turn.
WITH_START = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m.role }}\n\n{{ m.content | trim }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n\n{% endif %}"
)
# Refuses system turns, and calls the assistant by another name.
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|turn|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>model\n{% endif %}"
)
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}<|turn|>{{ m.role }}\n{{ m.content }}"
    "<|end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
# Puts an empty thought before the last answer, and before the one that it asks for.
THINKING = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n"
    "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Puts that thought only before the one that it asks for.
THINKING_ONCE = THINKING.replace("loop.last and", "false and")
# A space on both sides of an answer, which the tokenizer's own end token ends.
SPACED = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[ {{ m.content }} ]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
# The end of the text behind the end of the last turn.
ENDED_TWICE = CHATML.replace("{% if add", "{% if not add_generation_prompt %}{{ eos_token }}"
                             "{% endif %}{% if add")  # fmt: skip
# The next turn ends an answer.
OPEN_END = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CHATML
