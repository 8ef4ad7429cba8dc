"""Fuzzing of the protocol core: harnesses, the corpus that they found, and what failed once.

A harness is a module ``fuzz_NAME`` with a function ``one_input(data)``, which makes of any
bytes a scenario and raises when the core does what it must not. None needs a fuzzer:
``test_corpus.py`` runs all kept inputs in every test run, and ``run.py`` looks for new ones
with atheris, guided by coverage.

They look at the books of the core (``invariants.py``) and at its work (``work.py``), which they
count in calls of functions: that is the same on any machine.

- ``corpus/NAME.txt`` has the inputs that together reach all lines of the core that were ever
  reached, and some more, one a line in base64: a few hundred small files would only clutter the
  tree, and lines can be compared. ``run.py SECONDS --keep`` adds what it found, and leaves out
  what has become superfluous. It also makes good what a change of a harness has cost: that gives
  the same bytes another meaning.
- ``regressions/NAME-WHAT`` are inputs that failed once, one a file, as ``run.py`` saves them.
"""
