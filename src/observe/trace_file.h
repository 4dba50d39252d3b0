/* The trace as a file for viewers of timelines: JSON trace events, which the browsers' trace viewers and Perfetto open.
 *
 * For each cycle there is an event for the whole, and inside it one for each phase; in each marker's own row one for the
 * time that it worked; and a counter of the heap's size.  The file is a complete JSON array after each cycle: the closing
 * bracket is overwritten by the next events.
 *
 * A cycle is written when the world runs, in a critical section, since a fork must not find the lock held.  A fork's
 * child writes a file of its own, PATH.PID, from its first cycle on. */
#ifndef MIDDEN_OBSERVE_TRACE_FILE_H
#define MIDDEN_OBSERVE_TRACE_FILE_H

#include "gc/collector.h"

/* Creates the file.  0 or -errno. */
int trace_file_open(const char *path);

/* Adds a cycle; nothing while no file is open.  Where the file cannot be written it is given up, with a message. */
void trace_file_cycle(const struct collector_report *report);

#endif
