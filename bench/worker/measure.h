/* The measured section of a workload, and the pauses that the engine reports in it.
 *
 * A workload prepares its data, calls measure_start, works, calls measure_end; the second adds the figures that every
 * workload has to the result.  Pauses and mark phases are timed between the engine's own events, in the same way for
 * every engine: a pause begins before the first thread is asked to stop and ends when all run again.  Events come one
 * collection at a time, so nothing here needs a lock; the section ends when no collection runs. */
#ifndef BENCH_WORKER_MEASURE_H
#define BENCH_WORKER_MEASURE_H

#include <stdint.h>

struct histogram;

/* Time that passes, and CPU time of all threads of this process. */
uint64_t measure_clock_ns(void);
uint64_t measure_cpu_ns(void);

/* Before the engine starts. */
void measure_init(void);

void measure_start(void);
void measure_end(void);

/* For a thread that has others work: waits until the time is over and so many collections have ended, since on a busy
 * machine a large heap would see none in any fixed time; for 20 times as long at most.  What never collects is not waited
 * for. */
void measure_wait(long ms, uint64_t collections);

/* Length of the section that ended last. */
uint64_t measure_wall_ns(void);
uint64_t measure_section_cpu_ns(void);

/* Time in mark phases since measure_start. */
uint64_t measure_mark_ns(void);

/* All pauses since the start of the process, by the engine's events. */
const struct histogram *measure_pauses(void);

/* Adds to the result how many pauses the section had from some length on, by the engine's own account: pauses_10us... */
void measure_report_pauses(void);

/* Called by the engine's event callback. */
void measure_pause_begin(void);
void measure_pause_end(void);
void measure_mark_begin(void);
void measure_mark_end(void);

#endif
