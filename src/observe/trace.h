/* The trace: a line on standard error for each collection and each time that memory was given back, a file for viewers,
 * or both; docs/trace.md explains them. */
#ifndef MIDDEN_OBSERVE_TRACE_H
#define MIDDEN_OBSERVE_TRACE_H

#include <stdbool.h>

#include "gc/scavenger.h"

/* At start.  `file` NULL: no file. */
void trace_init(bool lines, const char *file);

/* The line for an episode of the scavenger. */
void trace_scavenge(const struct scavenger_report *report);

/* The line for what the program had given back at once, from `start_ns` until now.  No lock held, in no critical section. */
void trace_release(uint64_t start_ns, size_t released_bytes, const struct pageheap_stats *after);

#endif
