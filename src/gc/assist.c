#include "gc/assist.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "gc/concurrent.h"
#include "gc/driver.h"
#include "gc/work.h"
#include "os/os.h"

enum { SLICE_BYTES = 512 << 10 };

bool assist_is_due;

void assist_begin(void) {}

void assist_end(struct collector_report *report, size_t scanned_bytes) {
  (void)report, (void)scanned_bytes;
}

size_t assist_trigger(size_t goal_bytes, size_t live_bytes) {
  if (goal_bytes == SIZE_MAX || goal_bytes <= live_bytes) return goal_bytes;
  return goal_bytes - (goal_bytes - live_bytes) / 4;
}

void assist_drain(struct cycle *cycle) {
  struct midden_tracer *first = &collector.tracers[0];
  (void)cycle;
  do {
    while (!mark_drain_some(first, SLICE_BYTES)) {
    }
  } while (mark_rescan_overflow(first) || work_is_available());
}

void assist_pay(struct mutator *self, size_t bytes) { (void)self, (void)bytes; }
