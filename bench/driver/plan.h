/* Which workloads run with which parameters: one table, and three selections from it. */
#ifndef BENCH_DRIVER_PLAN_H
#define BENCH_DRIVER_PLAN_H

enum plan_set {
  PLAN_QUICK = 1,   /* below a minute: is everything in order? */
  PLAN_DEFAULT = 2, /* some minutes: how does midden compare? */
  PLAN_FULL = 4,    /* an hour: the sizes of the published measurements */
  PLAN_LATENCY = 8  /* hours: delays by live heap and by threads */
};

struct plan_entry {
  const char *workload;
  const char *parameters; /* "name=value ...", each separated by one space; may be empty */
  unsigned sets;          /* enum plan_set, or'ed */
  int repeats_max;        /* 0: as often as all others */
};

/* The table; the last entry has no workload. */
extern const struct plan_entry plan[];

/* The engines that a workload is for, as a list of names with commas. */
const char *plan_engines(const char *workload);

#endif
