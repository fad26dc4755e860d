"""What is to be measured, and on what."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One row of the table; measured by `run(setting, **key)` in a process of its own, which returns the figures.

    Args:
        benchmark: Name of the sub-benchmark it belongs to.
        run: A function at the top of a module.
        key: What tells the case from the others, as JSON has it.
        default: It belongs to the default set.
    """

    benchmark: str
    run: Callable[..., dict]
    key: dict
    default: bool = False

    @property
    def label(self) -> str:
        words = []
        for name, value in self.key.items():
            word = name.replace('_', ' ')
            words.append(f'{"" if value else "not "}{word}' if isinstance(value, bool) else f'{word} {value}')
        return ', '.join(words)


@dataclass(frozen=True)
class Setting:
    """Where and how thoroughly the cases are measured, and what the command line asks for.

    Args:
        device: 'cpu' or 'cuda'.
        variants: Variants of the network, where the choice of the sub-benchmark is not wanted.
        sizes: Heights, which are also the widths, of the pictures, likewise.
        architectures: What `basicsr` measures, see `architectures.parse`.
        quick: Tiny cases, once: to see that everything runs.
    """

    device: str = 'cpu'
    variants: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    architectures: tuple[str, ...] = ()
    quick: bool = False

    def variants_or(self, *usual: str) -> tuple[str, ...]:
        return self.variants or (('T',) if self.quick else usual)

    def sizes_or(self, *usual: int) -> tuple[int, ...]:
        return self.sizes or ((32,) if self.quick else usual)


class Skip(Exception):
    """A case cannot be measured here; the message says why and what would help. No failure."""
