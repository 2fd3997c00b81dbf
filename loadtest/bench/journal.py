"""Turns as they end, one line of JSON each: a run of an hour that was cut short goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from browsing.whole import write_whole
from loadtest.bench.document import Product, Side


class _Line(BaseModel):
    """`run` is the first line's: what two runs must have in common for their turns to belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str | None = None
    side: Side | None = None
    product: Product | None = None


class Journal:
    """`sides`, `products`: what an earlier run left behind."""

    def __init__(self, path: Path | None, sides: list[Side], products: list[Product]) -> None:
        self._path = path
        self.sides = sides
        self.products = products

    @classmethod
    def nowhere(cls) -> Self:
        return cls(None, [], [])

    @classmethod
    def open(cls, path: Path, run: str) -> Self:
        """What another run left, or what cannot be read, is begun anew; half a last line is cut off."""
        sides: list[Side] = []
        products: list[Product] = []
        whole: list[str] = []
        for line in path.read_text().splitlines(keepends=True) if path.is_file() else []:
            try:
                read = _Line.model_validate_json(line)
            except ValidationError:
                break
            if not whole and read.run != run:
                break
            whole.append(line)
            if read.side is not None:
                sides.append(read.side)
            if read.product is not None:
                products.append(read.product)
        write_whole(path, "".join(whole) or _line(_Line(run=run)))
        return cls(path, sides, products)

    def side(self, side: Side) -> None:
        self._write(_Line(side=side))

    def product(self, product: Product) -> None:
        self._write(_Line(product=product))

    def _write(self, line: _Line) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(_line(line))


def _line(line: _Line) -> str:
    return line.model_dump_json() + "\n"
