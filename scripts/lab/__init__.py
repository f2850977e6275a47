"""What the demo, the tests and the benchmark build upon: images made in memory, a real registry, a stack of one's own."""
