#include "gc/pacer.h"

#include "base/bits.h"

enum { HEADROOM_BYTES = 256 * 1024, HEADROOM_DIVISOR = 8 };

static size_t add_saturating(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

/* `bytes` * `percent` / 100, in two steps that do not overflow: whole hundreds, and the rest. */
static size_t percent_of(size_t bytes, int percent) {
  size_t hundreds = (size_t)percent / 100, rest = (size_t)percent % 100;
  if (hundreds != 0 && bytes > SIZE_MAX / hundreds) return SIZE_MAX;
  return add_saturating(bytes * hundreds, bytes / 100 * rest);
}

static size_t grown(size_t live_bytes, int percent) {
  if (percent < 0) return SIZE_MAX;
  size_t growth = percent_of(live_bytes, percent);
  size_t extra = percent_of(PACER_SMALL_FACTOR * min_size(live_bytes, PACER_SMALL_BYTES), percent);
  return add_saturating(live_bytes, add_saturating(growth, extra));
}

static size_t limited(const struct pacer *pacer, size_t goal, size_t live_bytes, size_t overhead_bytes) {
  if (pacer->memory_limit_bytes == SIZE_MAX) return goal;
  size_t limit = pacer->memory_limit_bytes;
  size_t room = limit > overhead_bytes ? limit - overhead_bytes : 0;
  size_t least = add_saturating(live_bytes, max_size(live_bytes / HEADROOM_DIVISOR, HEADROOM_BYTES));
  return min_size(goal, max_size(room, least));
}

size_t pacer_goal(const struct pacer *pacer, size_t live_bytes, size_t overhead_bytes) {
  size_t goal = max_size(grown(live_bytes, pacer->percent), pacer->min_heap_bytes);
  return limited(pacer, goal, live_bytes, overhead_bytes);
}

size_t pacer_first_goal(const struct pacer *pacer) {
  if (pacer->percent < 0) return limited(pacer, SIZE_MAX, 0, 0);
  return limited(pacer, max_size(pacer->min_heap_bytes, pacer->initial_heap_bytes), 0, 0);
}
