/* The trace: a line on standard error for each collection; docs/trace.md explains it field by field. */
#ifndef MIDDEN_OBSERVE_TRACE_H
#define MIDDEN_OBSERVE_TRACE_H

#include "gc/collector.h"

void trace_cycle(const struct collector_report *report);

#endif
