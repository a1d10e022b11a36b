"""Blocks of headers that nobody writes on purpose."""

from __future__ import annotations

from hypothesis import strategies as st

pieces = st.sampled_from([b"\r\n", b"\r\n ", b"\n", b": ", b":", b"\0", b" ", b"\xff", b"0", b"a"])


@st.composite
def damaged(draw: st.DrawFn, usual: bytes) -> bytes:
    """A usual block, with something in it replaced, added, repeated, moved or removed."""
    block = usual
    for _ in range(draw(st.integers(1, 3))):
        lines = block.split(b"\r\n")
        line, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        start, length = draw(st.integers(0, len(block))), draw(st.integers(0, 4))
        match draw(st.integers(0, 3)):
            case 0:
                block = block[:start] + draw(pieces) + block[start + length :]
            case 1:
                block = block[:start] + block[start + length :]
            case 2:
                lines.insert(line, lines[other])
                block = b"\r\n".join(lines)
            case _:
                lines[line] = lines[line].swapcase()
                lines.insert(other, lines.pop(line))
                block = b"\r\n".join(lines)
    return block
