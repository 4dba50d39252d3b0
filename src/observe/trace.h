/* The trace: a line on standard error for each collection, and for each time that memory was given back; docs/trace.md explains it field by field. */
#ifndef MIDDEN_OBSERVE_TRACE_H
#define MIDDEN_OBSERVE_TRACE_H

#include "gc/collector.h"
#include "gc/scavenger.h"

void trace_cycle(const struct collector_report *report);
void trace_scavenge(const struct scavenger_report *report);

#endif
