"""Where the numbers in results/ and in README come from: studies, the benchmark, and README's generated parts."""
