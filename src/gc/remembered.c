#include "gc/remembered.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "gc/assist.h"
#include "gc/loan.h"
#include "page/arena.h"
#include "span/cards.h"

enum {
  PART_BYTES = 128 * 1024,
  JOB_NS = 100 * 1000 /* longer than that no worker begins another part: threads may wait for its processor */
};

/* What a walk through the heap looks for.  Small objects come first, without a look into them: what they refer to would be taken for old
 * where the walk comes by later. */
enum wanted { SMALL_OBJECTS, LARGE_OBJECTS, TRACE_FUNCTIONS };

static NOT_A_ROOT struct {
  uintptr_t next, end; /* the next part, atomic; the arena's end when the walks began: what lies above is young */
  enum wanted wanted;
  bool any_large; /* atomic; there may be large objects on cards */
} scan;

static void scan_pages(struct midden_tracer *tracer, struct os_range run) {
  for (struct os_range page = {.end = run.start}; page.end < run.end;) {
    page = (struct os_range){page.end, min_size(round_down(page.end, PAGE_BYTES) + PAGE_BYTES, run.end)};
    mark_large_again(tracer, page);
  }
}

static void scan_part(struct midden_tracer *tracer, struct os_range part) {
  if (scan.wanted == TRACE_FUNCTIONS) {
    mark_call_again(tracer, part);
    return;
  }
  for (struct os_range run = {.end = part.start}; cards_next_run(run.end, part.end, &run.start, &run.end);) {
    if (scan.wanted == LARGE_OBJECTS) {
      scan_pages(tracer, run);
    } else if (!mark_grey_again(tracer, run)) {
      atomic_store_relaxed(&scan.any_large, true);
    }
  }
}

static void scan_job(void *argument, unsigned marker) {
  (void)argument;
  struct midden_tracer *tracer = &collector.tracers[marker];
  uint64_t start_ns = os_now_ns(), cpu_ns = cycle_begin_share(marker);
  while (os_now_ns() - start_ns < JOB_NS) {
    uintptr_t part = atomic_add_relaxed(&scan.next, (uintptr_t)PART_BYTES);
    if (part >= scan.end) break;
    scan_part(tracer, (struct os_range){part, min_size(part + PART_BYTES, scan.end)});
  }
  mark_publish(tracer);
  cycle_end_share(marker, cpu_ns);
}

static void walk(struct cycle *cycle, enum wanted wanted) {
  scan.wanted = wanted;
  scan.next = heap_arena.start;
  while (atomic_load_relaxed(&scan.next) < scan.end) {
    assist_run(cycle, scan_job, NULL);
    loan_offer(cycle->self);
  }
}

void remembered_scan(struct cycle *cycle) {
  scan.end = atomic_load_acquire(&heap_arena.used);
  scan.any_large = false;
  walk(cycle, SMALL_OBJECTS);
  if (scan.any_large) walk(cycle, LARGE_OBJECTS);
  if (mark_has_to_call_again()) walk(cycle, TRACE_FUNCTIONS);
}
