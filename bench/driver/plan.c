#include "driver/plan.h"

#include <stddef.h>
#include <string.h>

enum { QUICK = PLAN_QUICK, USUAL = PLAN_DEFAULT | PLAN_FULL, FULL = PLAN_FULL, LATENCY = PLAN_LATENCY };

/* Allocation runs with a heap of 64 MiB, so that it measures allocating and not the size of the smallest heap; the rows
 * without that show each engine as it comes. */
const struct plan_entry plan[] = {
    {"trees", "depth=14 threads=1", QUICK, 0},
    {"trees", "depth=14 threads=2", QUICK, 0},
    {"trees", "depth=16 threads=1", USUAL, 0},
    {"trees", "depth=18 threads=1", USUAL, 3},
    {"trees", "depth=18 threads=2", USUAL, 3},
    {"trees", "depth=20 threads=1", FULL, 3},
    {"trees", "depth=20 threads=2", FULL, 3},

    {"gcbench", "depth=12 threads=1", QUICK, 0},
    {"gcbench", "depth=16 threads=1", USUAL, 0},
    {"gcbench", "depth=16 threads=2", USUAL, 0},

    {"alloc", "kind=scan bytes=64 count=1000000 heap=64M", QUICK, 0},
    {"alloc", "kind=data bytes=64 count=1000000 heap=64M", QUICK, 0},
    {"alloc", "kind=scan bytes=8192 count=20000 heap=64M", QUICK, 0},
    {"alloc", "kind=scan bytes=64 threads=2 count=1000000 heap=64M", QUICK, 0},
    {"alloc", "kind=scan bytes=16 heap=64M", USUAL, 0},
    {"alloc", "kind=data bytes=16 heap=64M", USUAL, 0},
    {"alloc", "kind=scan bytes=64 heap=64M", USUAL, 0},
    {"alloc", "kind=data bytes=64 heap=64M", USUAL, 0},
    {"alloc", "kind=scan bytes=256 heap=64M", USUAL, 0},
    {"alloc", "kind=data bytes=256 heap=64M", USUAL, 0},
    {"alloc", "kind=scan bytes=1024 heap=64M", USUAL, 0},
    {"alloc", "kind=data bytes=1024 heap=64M", USUAL, 0},
    {"alloc", "kind=scan bytes=8192 heap=64M", USUAL, 0},
    {"alloc", "kind=data bytes=8192 heap=64M", USUAL, 0},
    {"alloc", "kind=scan bytes=64 threads=2 heap=64M", USUAL, 0},
    {"alloc", "kind=scan bytes=1024 threads=2 heap=64M", USUAL, 0},
    {"alloc", "kind=scan bytes=64", USUAL, 0},
    {"alloc", "kind=data bytes=1024", USUAL, 0},

    {"graph", "nodes=64K markers=1", QUICK, 0},
    {"graph", "nodes=64K markers=1 rounds=5", USUAL, 0},
    {"graph", "nodes=1M markers=1 rounds=3", USUAL, 0},
    {"graph", "nodes=1M markers=2 rounds=3", USUAL, 0},
    {"graph", "nodes=16M markers=1 rounds=1", USUAL, 3},
    {"graph", "nodes=16M markers=2 rounds=1", USUAL, 3},

    {"queue", "kind=data window=20000 messages=100000", QUICK, 0},
    {"queue", "kind=data", USUAL, 0},
    {"queue", "kind=scan", USUAL, 3},

    {"specials", "what=both count=30000 rounds=3", QUICK, 0},
    {"specials", "what=finalizers", USUAL, 0},
    {"specials", "what=links", USUAL, 0},
    {"specials", "what=finalizers count=1M rounds=3", USUAL, 0},
    {"specials", "what=links count=1M rounds=3", USUAL, 0},
    {"specials", "what=both count=512 rounds=1000 bytes=16", USUAL, 0},

    {"mutate", "nodes=64K steps=200000", QUICK, 0},
    {"mutate", "nodes=1M steps=4M", USUAL, 3},
    {"mutate", "nodes=16M steps=20M", FULL, 3},

    {"latency", "live=8M ms=300 collections=1", QUICK, 0},
    {"latency", "live=256M ms=5000", USUAL, 3},
    {"latency", "live=16M ms=20000", LATENCY, 0},
    {"latency", "live=64M ms=20000", LATENCY, 0},
    {"latency", "live=256M ms=20000", LATENCY, 0},
    {"latency", "live=1G ms=30000", LATENCY, 0},
    {"latency", "live=4G ms=60000", LATENCY, 3},
    {"latency", "live=8G ms=60000", LATENCY, 3},
    {"latency", "live=256M mutators=1 ms=20000", LATENCY, 0},
    {"latency", "live=256M blocked=6 ms=20000", LATENCY, 0},
    {"latency", "live=256M blocked=62 ms=20000", LATENCY, 0},
    {"latency", "live=256M blocked=254 ms=20000", LATENCY, 0},
    {"latency", "live=256M blocked=127 silent=127 ms=20000", LATENCY, 0},

    {"stores", "live=8M ms=300 collections=1", QUICK, 0},
    {"stores", "live=256M rate=100000", USUAL, 3},
    {"stores", "live=1G rate=10000", LATENCY, 3},
    {"stores", "live=1G rate=100000", LATENCY, 3},
    {"stores", "live=1G rate=0", LATENCY, 3},
    {"stores", "live=1G rate=10000 between=sleep garbage=16K", LATENCY, 3},
    {"stores", "live=2G rate=100000", LATENCY, 3},
    {"stores", "live=4G rate=100000", LATENCY, 3},
    {"stores", "live=8G rate=100000", LATENCY, 3},

    {"spike", "spike=64M live=16M wait=1", QUICK, 0},
    {"spike", "spike=1G live=64M wait=10", USUAL, 1},
    {NULL, NULL, 0, 0},
};

const char *plan_engines(const char *workload) {
  static const struct {
    const char *workload, *engines;
  } special[] = {
      {"trees", "midden,midden-barrier,dropin,stock,malloc"},
      {"gcbench", "midden,midden-barrier,dropin,stock,malloc"},
      {"graph", "midden,midden-barrier,dropin,stock"},
      {"latency", "midden,midden-barrier,stock,stock-serial,stock-incremental,go,go-locked,control"},
      {"stores", "midden,midden-barrier,midden-dirty,dropin,dropin-stw,stock,control"},
  };
  for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
    if (strcmp(special[i].workload, workload) == 0) return special[i].engines;
  }
  return "midden,dropin,stock,malloc";
}
