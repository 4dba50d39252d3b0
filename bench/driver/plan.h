/* Which workloads run with which parameters: one table, and three selections from it. */
#ifndef BENCH_DRIVER_PLAN_H
#define BENCH_DRIVER_PLAN_H

enum plan_set {
  PLAN_QUICK = 1,   /* below a minute: is everything in order? */
  PLAN_DEFAULT = 2, /* some minutes: how does midden compare? */
  PLAN_FULL = 4     /* an hour: the sizes of the published measurements */
};

struct plan_entry {
  const char *workload;
  const char *parameters; /* "name=value ...", each separated by one space; may be empty */
  unsigned sets;          /* enum plan_set, or'ed */
  int repeats_max;        /* 0: as often as all others */
};

/* The table; the last entry has no workload. */
extern const struct plan_entry plan[];

#endif
