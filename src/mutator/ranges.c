#include "mutator/ranges.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "meta/persist.h"

static int make_room(struct ranges *set) {
  if (set->count < set->capacity) return 0;
  size_t capacity = max_size(set->capacity * 2, 64);
  struct os_range *items = os_map(capacity * sizeof *items);
  if (items == NULL) return -ENOMEM;
  persist_charge(PERSIST_OTHER, (ptrdiff_t)((capacity - set->capacity) * sizeof *items));
  if (set->count != 0) memcpy(items, set->items, set->count * sizeof *items);
  if (set->items != NULL) os_unmap(set->items, set->capacity * sizeof *items);
  set->items = items;
  set->capacity = capacity;
  return 0;
}

/* Replaces items [from, to) by `count` items of `with`; there is room. */
static void splice(struct ranges *set, size_t from, size_t to, const struct os_range *with, size_t count) {
  memmove(&set->items[from + count], &set->items[to], (set->count - to) * sizeof *set->items);
  memcpy(&set->items[from], with, count * sizeof *with);
  set->count = set->count - (to - from) + count;
}

size_t ranges_first_beyond(const struct ranges *set, uintptr_t address) {
  size_t low = 0, high = set->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (set->items[middle].end > address) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

int ranges_add(struct ranges *set, struct os_range range) {
  if (range.start >= range.end) return 0;
  if (make_room(set) != 0) return -ENOMEM;
  size_t from = range.start == 0 ? 0 : ranges_first_beyond(set, range.start - 1); /* or ends where this one starts */
  size_t to = from;
  for (; to < set->count && set->items[to].start <= range.end; to++) {
    range.start = min_size(range.start, set->items[to].start);
    range.end = max_size(range.end, set->items[to].end);
  }
  splice(set, from, to, &range, 1);
  return 0;
}

int ranges_remove(struct ranges *set, struct os_range range) {
  if (range.start >= range.end) return 0;
  size_t from = ranges_first_beyond(set, range.start);
  size_t to = from;
  while (to < set->count && set->items[to].start < range.end) to++;
  if (from == to) return 0;
  struct os_range rest[2];
  size_t count = 0;
  if (set->items[from].start < range.start) rest[count++] = (struct os_range){set->items[from].start, range.start};
  if (set->items[to - 1].end > range.end) rest[count++] = (struct os_range){range.end, set->items[to - 1].end};
  if (count > to - from && make_room(set) != 0) return -ENOMEM;
  splice(set, from, to, rest, count);
  return 0;
}

void ranges_clear(struct ranges *set) { set->count = 0; }

void ranges_visit_outside(const struct ranges *set, struct os_range range,
                          void (*visit)(void *argument, struct os_range range), void *argument) {
  for (size_t i = ranges_first_beyond(set, range.start); i < set->count && range.start < range.end; i++) {
    struct os_range hole = set->items[i];
    if (hole.start >= range.end) break;
    if (hole.start > range.start) visit(argument, (struct os_range){range.start, hole.start});
    range.start = hole.end;
  }
  if (range.start < range.end) visit(argument, range);
}
