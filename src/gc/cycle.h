/* One cycle from the inside: what the three kinds of cycle share (gc/stopped.c, gc/concurrent.c, gc/dirty.c).
 *
 * Everything here belongs to the thread that holds the collector lock, unless it says otherwise. */
#ifndef MIDDEN_GC_CYCLE_H
#define MIDDEN_GC_CYCLE_H

#include "base/attr.h"
#include "gc/brief.h"
#include "gc/collector.h"
#include "gc/generation.h"
#include "gc/limiter.h"
#include "gc/mark.h"
#include "gc/markers.h"
#include "gc/pacer.h"

/* The collector's state; under its lock unless it says otherwise. */
struct collector {
  uint32_t phase; /* atomic to read */
  struct pacer pacer;
  struct pacer_footprint footprint; /* as of the last cycle */
  struct limiter limiter;
  struct generation generation;
  struct brief brief;        /* dirty-page mode */
  size_t brief_most_bytes;   /* atomic; what is to be marked in a stop altogether, at most */
  size_t awaited_most_bytes; /* atomic; likewise where nobody does anything but wait for it */
  uint64_t limit_release_ns; /* of heap_pages, as far as charged to the limiter */
  uint64_t yields_before;    /* the limiter's, as of the last cycle */
  unsigned markers;
  bool concurrent, dirty;         /* marks beside the program, without its barrier; constant after start */
  uint32_t disabled;              /* atomic */
  uint64_t start_ns;              /* when the library started */
  struct collector_totals totals; /* see there */
  uint32_t owner;                 /* atomic; the thread that holds the lock, or 0 */
  uint64_t ended_ns;              /* atomic; when the last cycle did */
  struct midden_tracer tracers[MARKERS_MAX];
  struct marker_report marker[MARKERS_MAX];
};
extern struct collector collector;

/* One cycle, on the collecting thread's stack. */
struct cycle {
  struct mutator *self;
  uintptr_t stack_pointer; /* where the program's part of this thread's stack ends, its registers included */
  bool (*stop)(void *argument);
  void *stop_argument;
  bool young_are_white; /* dirty-page mode: what is allocated while it marks, until the stop */
  bool given_up;
  bool was_left;        /* its stop, and it is not ended yet: finalizers are settled beside the program */
  bool was_handed_over; /* a thread of the program has ended it, and told of finalizers */
  bool has_memory_to_release;
  size_t young_bytes;    /* allocated white while it marked */
  uint64_t taken_cpu_ns; /* processor time of threads of the program that ended it */
  struct collector_report report;
};

uint64_t cycle_now_ns(void); /* since the library started */

/* What is expected of a stop for all of the marking has changed. */
void cycle_expect_stops(void);

/* Whether a cycle that is expected to mark so much runs beside the program, in the driver. */
bool cycle_runs_beside(size_t expected_bytes);

/* The same of one for which its thread, `self`, waits: in dirty-page mode nobody gains anything from that if no other thread runs. */
bool cycle_runs_beside_who_waits(size_t expected_bytes, struct mutator *self);

/* Only growth is content with the young. */
bool cycle_is_for_growth(const struct cycle *cycle);

/* Whether the next cycle is to be a minor one, if it is for growth; whether this one may. */
bool cycle_minor_is_wanted(void);
bool cycle_may_be_minor(const struct cycle *cycle);

/* Writes the phase, and checks the step.  CONCURRENT cycles: with the gate closed. */
void cycle_set_phase(enum collector_phase to);

/* Tells the program's event callback. */
void cycle_announce(enum midden_event event);

/* Makes the tracers ready. */
void cycle_begin_marking(const struct cycle *cycle, enum mark_mode mode);

/* Roots of the program's own. */
void cycle_report_program_roots(struct midden_tracer *tracer);

/* Around a share of a marker's work, for its figures, and so that it may read anything (base/memcheck.h): begins, and gives its
 * processor time, which ends it. */
uint64_t cycle_begin_share(unsigned marker);
void cycle_end_share(unsigned marker, uint64_t cpu_ns);

/* Marks all that is grey, by one tracer. */
void cycle_drain_alone(struct midden_tracer *tracer);

/* Calls collector_checker, if there is one. */
void cycle_check_stw(struct cycle *cycle);

/* How the heap is filled when a cycle begins. */
void cycle_take_footprint(size_t object_bytes);

/* `trigger_bytes`: where the next cycle starts, the goal or less. */
void cycle_set_goal(size_t goal_bytes, size_t trigger_bytes);

/* The tracers' counts, added up; they give their buffers back. */
void cycle_count_marked(struct cycle *cycle, struct tally *marked);

/* Marking is over: figures of what was marked, the next goal, and what was swept becomes unswept.  `new_bytes` were allocated
 * while it went on.  No thread is in a critical section. */
void cycle_finish(struct cycle *cycle, const struct tally *marked, size_t new_bytes);

/* After the marking, the world running: what cannot wait for a sweep. */
void cycle_sweep_after(struct cycle *cycle);

/* Takes all marks back, those of old objects too.  Nobody marks; threads may run, and then the gate must close before the
 * marking begins (concurrent_begin). */
void cycle_clear_marks(void);

/* Counts a pause; any thread. */
void cycle_count_pause(uint64_t ns);

/* Counts the cycle; under the lock of the list of mutators. */
void cycle_add_to_totals(const struct collector_report *report);

#endif
