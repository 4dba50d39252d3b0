module midden/bench/latency

go 1.19
