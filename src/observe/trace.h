/* The trace: a line on standard error for each collection, a file for viewers, or both; docs/trace.md explains them. */
#ifndef MIDDEN_OBSERVE_TRACE_H
#define MIDDEN_OBSERVE_TRACE_H

#include <stdbool.h>

/* At start.  `file` NULL: no file. */
void trace_init(bool lines, const char *file);

#endif
