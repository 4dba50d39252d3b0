#include "gc/rounds.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/memcheck.h"
#include "gc/assist.h"
#include "gc/concurrent.h"
#include "gc/loan.h"
#include "gc/rootset.h"
#include "gc/slowing.h"
#include "mutator/roots.h"
#include "mutator/written.h"
#include "page/pageheap.h"

enum {
  ROUNDS_MOST = 16,
  LITTLE_BYTES = 256 << 10,   /* are scanned again in a fraction of a millisecond */
  LITTLE_NS = 150 * 1000,     /* twice what another processor takes to wake up */
  SLICE_BYTES = 128 << 10,    /* that were written: after them, who scans beside the program gives way */
  JOB_NS = 300 * 1000,        /* longer than that no worker begins another part */
  SLOW_LEAST_BYTES = 1 << 20, /* less is not worth slowing the program for */
  SHRINK_DIVISOR = 4,         /* a round that leaves more than all but this part of the last one's was in vain */
  IN_VAIN_MOST = 5
};

/* The collector lock's holder's. */
static NOT_A_ROOT struct {
  bool is_lost;           /* atomic; what was written is not known any more */
  size_t next_part;       /* atomic; of the heap, in a round or the stop */
  size_t written_bytes;   /* atomic; as the round or the stop found it */
  size_t again_bytes;     /* atomic; of that, what marked objects take */
  size_t stacks_at_bytes; /* live when stacks were scanned last */
  bool left_little;       /* to the next round or the stop: not much was written */
  uint64_t took_ns;       /* the last round, to read what was written */
} rounds;

/* ---- the heap in parts ---- */

static void begin_parts(void) {
  written_divide();
  atomic_store_relaxed(&rounds.next_part, (size_t)0);
  atomic_store_relaxed(&rounds.written_bytes, (size_t)0);
  atomic_store_relaxed(&rounds.again_bytes, (size_t)0);
}

static bool take_part(size_t *part) {
  *part = atomic_add_relaxed(&rounds.next_part, (size_t)1);
  return *part < written_part_count();
}

/* False where it is lost. */
static bool scan_part(size_t part, bool protect, written_visit_fn *scan, void *argument) {
  ptrdiff_t written = atomic_load_relaxed(&rounds.is_lost) ? -1 : written_visit(part, protect, scan, argument);
  if (written >= 0) {
    atomic_add_relaxed(&rounds.written_bytes, (size_t)written);
  } else {
    atomic_store_relaxed(&rounds.is_lost, true);
  }
  return written >= 0;
}

/* ---- rounds ---- */

void rounds_begin(bool stacks_are_scanned) {
  rounds.is_lost = rounds.left_little = false;
  rounds.stacks_at_bytes = stacks_are_scanned ? atomic_load_relaxed(&account_live_bytes) : 0;
}

/* A part may take many slices. */
struct scan_beside {
  unsigned marker;
  size_t slice_bytes;
  size_t again_bytes;
};

static void scan_again_beside(void *argument, struct os_range range) {
  struct scan_beside *scan = argument;
  scan->again_bytes += mark_range_again(&collector.tracers[scan->marker], range);
  scan->slice_bytes += range.end - range.start;
  if (scan->slice_bytes < SLICE_BYTES) return;
  scan->slice_bytes = 0;
  markers_give_way(scan->marker);
}

static void scan_part_job(void *argument, unsigned marker) {
  (void)argument;
  struct midden_tracer *tracer = &collector.tracers[marker];
  uint64_t start_ns = os_now_ns(), cpu_ns = cycle_begin_share(marker);
  struct scan_beside scan = {.marker = marker};
  for (size_t part; os_now_ns() - start_ns < JOB_NS && take_part(&part);)
    scan_part(part, true, scan_again_beside, &scan);
  atomic_add_relaxed(&rounds.again_bytes, scan.again_bytes);
  mark_publish(tracer);
  cycle_end_share(marker, cpu_ns);
}

static size_t scan_written_static(void) {
  struct midden_tracer *tracer = &collector.tracers[0];
  memcheck_quiet_begin();
  size_t bytes = roots_visit_written_running(mark_static, tracer);
  memcheck_quiet_end();
  mark_publish(tracer);
  return bytes;
}

size_t rounds_scan_written(struct cycle *cycle) {
  size_t static_bytes = scan_written_static();
  begin_parts();
  while (rounds.next_part < written_part_count() && !rounds.is_lost) {
    assist_run(cycle, scan_part_job, NULL);
    loan_offer(cycle->self);
  }
  return rounds.again_bytes + static_bytes;
}

/* What was allocated since the stacks were scanned may hang on nothing but them. */
static void scan_stacks(struct cycle *cycle) {
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  if (!cycle->young_are_white || live_bytes - rounds.stacks_at_bytes < LITTLE_BYTES) return;
  rounds.stacks_at_bytes = live_bytes;
  concurrent_scan_threads_again(cycle);
}

void rounds_drain(struct cycle *cycle) {
  slowing_stem_runaway(cycle->report.live_before_bytes);
  assist_drain(cycle);
  slowing_stem_growth();
}

/* In bytes, what it read: of what was marked before, and of what was found. */
static size_t run_round(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  size_t before_bytes = assist_scanned_bytes(), again_bytes = rounds_scan_written(cycle);
  rounds.took_ns = os_now_ns() - start_ns;
  scan_stacks(cycle);
  rounds_drain(cycle);
  cycle->report.rounds++;
  return again_bytes + (assist_scanned_bytes() - before_bytes);
}

void rounds_run(struct cycle *cycle) {
  unsigned in_vain = 0, most = cycle->report.rounds + ROUNDS_MOST;
  for (size_t before = SIZE_MAX, bytes; !rounds.is_lost && cycle->report.rounds < most; before = bytes) {
    bytes = run_round(cycle);
    rounds.left_little = bytes <= LITTLE_BYTES;
    if (rounds.left_little) break;
    in_vain += bytes > before - before / SHRINK_DIVISOR;
    if (in_vain > IN_VAIN_MOST && slowing_is_due()) break;
    if (in_vain > 1 && bytes <= SLOW_LEAST_BYTES) break;
    if (in_vain > 0 && bytes > SLOW_LEAST_BYTES) slowing_stem_all();
  }
}

/* ---- the stop ---- */

bool rounds_are_lost(void) { return rounds.is_lost; }

bool rounds_left_little(void) { return rounds.left_little && rounds.took_ns <= LITTLE_NS; }

void rounds_begin_stw(void) { begin_parts(); }

static void scan_again(void *tracer, struct os_range range) { mark_range_again(tracer, range); }

static void scan_all_of(struct midden_tracer *tracer, size_t part) {
  struct os_range range = written_part(part);
  mark_range_again(tracer, range);
  atomic_add_relaxed(&rounds.written_bytes, range.end - range.start);
}

void rounds_scan_share_stw(struct midden_tracer *tracer) {
  for (size_t part; take_part(&part);) {
    if (!scan_part(part, false, scan_again, tracer)) scan_all_of(tracer, part);
  }
}

size_t rounds_written_bytes(void) { return atomic_load_relaxed(&rounds.written_bytes); }
