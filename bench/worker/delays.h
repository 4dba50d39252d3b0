/* The delays of one thread, as the thread itself sees them.
 *
 * The thread says delays_mark after each operation.  What passes between two marks is the operation's time, save for
 * looks at what the kernel says: one that lasts longer than 10 us (a processor is often lost in a system call) counts, too,
 * and is repeated until one does not.  So no delay is overlooked.  An operation of more than 10 us is a delay, and of each
 * the thread asks the kernel where the time went, by the difference to what it was told last (at the last delay, or a
 * millisecond ago):
 *
 *   waited       it gave its processor up by itself: it was stopped, or waited for a lock or for memory
 *   worked       it had its processor
 *   descheduled  the processor was taken away: by the kernel (involuntary switches and no others), or by what no switch
 *                tells of, an interrupt or another virtual machine (no switch, and not half of the delay in CPU time)
 *
 * What the collector caused is the CPU time in a delay beyond a normal operation's; where the thread gave its processor up,
 * all of the delay but the time in which it was runnable again and had no processor, which the kernel adds up for each
 * thread (schedstat).  `net` is the latter for all delays, an account that does not ask what the thread did.
 *
 * A virtual machine may be stopped for a while.  Where the host tells, the kernel inside leaves that out of the CPU time;
 * waiting threads wait as long.  What the host took of all processors since the last delay of a millisecond or more (the
 * steal of /proc/stat, in ticks) is taken off the next: what then is left of what was caused is the thread's own. */
#ifndef BENCH_WORKER_DELAYS_H
#define BENCH_WORKER_DELAYS_H

#include <stdint.h>

#include "worker/histogram.h"
#include "worker/measure.h"

enum { DELAY_NS = 10000, DELAY_LOOK_NS = 1000000, DELAY_LONG_NS = 1000000 };

enum delay_class { DELAY_WAITED, DELAY_WORKED, DELAY_DESCHEDULED, DELAY_CLASSES };

/* What the kernel says of a thread. */
struct thread_times {
  uint64_t wall_ns;
  uint64_t cpu_ns;
  uint64_t queued_ns; /* runnable without a processor */
  long voluntary;     /* switches */
  long involuntary;
  long faults; /* of pages, without reading from a disk */
};

/* Of one thread; merged for the report. */
struct delays {
  uint64_t at_ns;           /* the last mark */
  uint64_t operations;      /* since the last look */
  uint64_t normal_ns;       /* mean of those before it */
  struct thread_times look; /* the last */
  int schedstat;            /* file descriptor, or -1 */

  struct histogram all; /* every operation */
  struct histogram delays;
  struct histogram caused; /* by the collector, as far as it is more than 10 us */
  struct histogram net;
  uint64_t count[DELAY_CLASSES], total_ns[DELAY_CLASSES];
  uint64_t sum_ns, caused_ns, net_ns;
  uint64_t faulted, faulted_ns; /* delays in which a page came */
  uint64_t stolen, stolen_ns;   /* long delays in which the host took processor time, and how much */
  uint64_t longest_own_ns;      /* the longest of what was caused, without that */
  uint64_t steal_ticks;         /* of all processors, at the last long delay */
};

struct delays *delays_new(void);

/* The calling thread begins: its first operation starts now. */
void delays_begin(struct delays *delays);

/* The same again: what was counted so far is forgotten. */
void delays_restart(struct delays *delays);

/* The calling thread has done something else since its last mark, or waited: the next operation starts now. */
void delays_resume(struct delays *delays);

/* The slow half of delays_mark: the operation that began at delays->at_ns ended.  Returns the time. */
uint64_t delays_look(struct delays *delays);

/* The end of an operation.  Returns the time. */
static inline uint64_t delays_mark(struct delays *delays) {
  uint64_t now_ns = measure_clock_ns(), operation_ns = now_ns - delays->at_ns;
  delays->operations++;
  if (operation_ns > DELAY_NS || now_ns - delays->look.wall_ns > DELAY_LOOK_NS) return delays_look(delays);
  histogram_add(&delays->all, operation_ns);
  return delays->at_ns = now_ns;
}

/* The calling thread is done. */
void delays_end(struct delays *delays);

/* Adds all of `from`, whose thread is done. */
void delays_merge(struct delays *delays, const struct delays *from);

void delays_report(const struct delays *delays);

#endif
