/* Persistent memory: a bump allocator over chunks of the system's, which grow with what there is: the system maps them
 * under a lock of the whole process, where a thread may wait for another's page faults.
 *
 * A request that would waste much of a chunk gets a mapping of its own.  When a chunk is too full for a request the
 * rest of it is given up: at most a quarter of a chunk, and memory that nobody touched costs address space only.  The
 * lock is a leaf, so that every other lock may be held. */
#include "meta/persist.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/lock.h"
#include "os/os.h"

enum { CHUNK_BYTES = 256 << 10, CHUNK_MOST_BYTES = 16 << 20, OWN_MAPPING_BYTES = CHUNK_BYTES / 4, GROW_FRACTION = 4 };

static struct lock persist_lock = LOCK_INIT(LOCK_RANK_LEAF);
static uintptr_t chunk_next, chunk_end;          /* rest of the current chunk; under persist_lock */
static size_t held_bytes[PERSIST_PURPOSE_COUNT]; /* atomic */

/* A quarter of what there is, or less where the system is short. */
static bool map_chunk_locked(void) {
  size_t bytes = min_size(persist_total_bytes() / GROW_FRACTION, CHUNK_MOST_BYTES);
  bytes = max_size(round_up(bytes, CHUNK_BYTES), CHUNK_BYTES);
  void *chunk = os_map(bytes);
  if (chunk == NULL && bytes > CHUNK_BYTES) chunk = os_map(bytes = CHUNK_BYTES);
  if (chunk == NULL) return false;
  chunk_next = (uintptr_t)chunk;
  chunk_end = chunk_next + bytes;
  return true;
}

static void *carve_locked(size_t bytes, size_t alignment) {
  uintptr_t start = round_up(chunk_next, alignment); /* at most chunk_end, which every alignment divides */
  if (chunk_end - start < bytes) {
    if (!map_chunk_locked()) return NULL;
    start = chunk_next;
  }
  chunk_next = start + bytes;
  return (void *)start;
}

void *persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose) {
  ASSERT(is_power_of_two(alignment) && alignment <= os_page_bytes());
  void *memory;
  if (bytes >= OWN_MAPPING_BYTES) {
    size_t mapped_bytes = round_up(bytes, os_page_bytes());
    memory = mapped_bytes >= bytes ? os_map(mapped_bytes) : NULL;
    bytes = mapped_bytes;
  } else {
    lock_acquire(&persist_lock);
    memory = carve_locked(bytes, alignment);
    lock_release(&persist_lock);
  }
  if (memory != NULL) persist_charge(purpose, (ptrdiff_t)bytes);
  return memory;
}

void persist_populate(size_t bytes) {
  lock_acquire(&persist_lock);
  uintptr_t start = chunk_next, end = min_size(chunk_end - start, bytes) + start;
  lock_release(&persist_lock);
  if (end != start) os_populate((void *)start, end - start);
}

void persist_charge(enum persist_purpose purpose, ptrdiff_t bytes) {
  ASSERT(purpose < PERSIST_PURPOSE_COUNT);
  atomic_add_relaxed(&held_bytes[purpose], (size_t)bytes);
}

size_t persist_bytes(enum persist_purpose purpose) {
  ASSERT(purpose < PERSIST_PURPOSE_COUNT);
  return atomic_load_relaxed(&held_bytes[purpose]);
}

size_t persist_total_bytes(void) {
  size_t total = 0;
  for (int purpose = 0; purpose < PERSIST_PURPOSE_COUNT; purpose++)
    total += persist_bytes((enum persist_purpose)purpose);
  return total;
}
