"""What stands behind the numbers of results/ and README: studies, their intervals, the benchmark, README's parts."""
