/* Runs one worker in a process of its own and reads its result line. */
#ifndef BENCH_DRIVER_CHILD_H
#define BENCH_DRIVER_CHILD_H

#include "driver/record.h"

struct engine;

enum child_end {
  CHILD_DONE,           /* `record` is filled */
  CHILD_NOT_STARTED,    /* the program or a library that it needs is missing */
  CHILD_NOT_APPLICABLE, /* the workload makes no sense with this engine */
  CHILD_FAILED          /* a message was printed */
};

struct child {
  const struct engine *engine;
  char **arguments; /* after the program's name; NULL at the end */
  unsigned timeout_s;
  struct record record; /* the worker's figures, and process_cpu_s and peak_rss_mib of the whole process */
};

enum child_end child_run(struct child *child);

#endif
