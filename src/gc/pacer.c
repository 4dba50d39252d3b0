#include "gc/pacer.h"

#include "base/bits.h"

enum { HEADROOM_BYTES = 256 * 1024, HEADROOM_DIVISOR = 32 };

/* Tables grow with the arena, by 1.7% of it. */
enum { MARGIN_DIVISOR = 64 };

/* A heap that was nearly empty says little of how full pages are. */
enum { PAGES_PER_OBJECTS_MAX = 2 };

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
  return add_saturating(live_bytes, max_size(add_saturating(growth, extra), HEADROOM_BYTES)); /* also of 0 percent */
}

size_t pacer_headroom(size_t live_bytes) { return max_size(live_bytes / HEADROOM_DIVISOR, HEADROOM_BYTES); }

/* Pages per byte of objects, at least 1. */
static double expansion(const struct pacer_footprint *footprint) {
  if (footprint->in_use_bytes <= footprint->object_bytes) return 1;
  if (footprint->in_use_bytes / PAGES_PER_OBJECTS_MAX >= footprint->object_bytes) return PAGES_PER_OBJECTS_MAX;
  return (double)footprint->in_use_bytes / (double)footprint->object_bytes;
}

size_t pacer_pages_bytes(const struct pacer_footprint *footprint, size_t object_bytes) {
  double bytes = (double)object_bytes * expansion(footprint);
  return bytes < (double)(SIZE_MAX / 2) ? (size_t)bytes : SIZE_MAX;
}

/* For objects, of so many bytes. */
static size_t room_in(size_t limit_bytes, size_t fixed_bytes, const struct pacer_footprint *footprint) {
  if (limit_bytes == SIZE_MAX) return SIZE_MAX;
  size_t limit = limit_bytes - limit_bytes / MARGIN_DIVISOR;
  return limit > fixed_bytes ? (size_t)((double)(limit - fixed_bytes) / expansion(footprint)) : 0;
}

size_t pacer_room(const struct pacer *pacer, const struct pacer_footprint *footprint) {
  return min_size(room_in(pacer->memory_limit_bytes, footprint->fixed_bytes, footprint),
                  room_in(pacer->max_heap_bytes, 0, footprint));
}

size_t pacer_limited(const struct pacer *pacer, size_t goal, size_t live_bytes,
                     const struct pacer_footprint *footprint) {
  size_t least = add_saturating(live_bytes, pacer_headroom(live_bytes));
  return min_size(goal, max_size(pacer_room(pacer, footprint), least));
}

/* What is dying has room, and none to grow by: it is garbage when its finalizers have run.  Else a program of whose garbage most has
 * finalizers would have its heap grow from cycle to cycle. */
size_t pacer_unlimited_goal(const struct pacer *pacer, size_t live_bytes) {
  size_t dying_bytes = min_size(pacer->dying_bytes, live_bytes);
  size_t goal_bytes = max_size(grown(live_bytes - dying_bytes, pacer->percent), pacer->min_heap_bytes);
  return add_saturating(goal_bytes, dying_bytes);
}

size_t pacer_goal(const struct pacer *pacer, size_t live_bytes, const struct pacer_footprint *footprint) {
  return pacer_limited(pacer, pacer_unlimited_goal(pacer, live_bytes), live_bytes, footprint);
}

size_t pacer_first_goal(const struct pacer *pacer) {
  static const struct pacer_footprint unknown;
  if (pacer->percent < 0) return pacer_limited(pacer, SIZE_MAX, 0, &unknown);
  return pacer_limited(pacer, max_size(pacer->min_heap_bytes, pacer->initial_heap_bytes), 0, &unknown);
}
