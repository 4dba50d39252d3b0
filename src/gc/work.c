#include "gc/work.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/lock.h"
#include "base/wait.h"
#include "meta/persist.h"
#include "os/os.h"

enum { CHUNK_BUFFERS = 8, SPINS = 200, WAIT_NS = 50000 };

/* A quarter of what there is, and more than threads fill between two slices of the driver. */
enum { RESERVE_DIVISOR = 4, RESERVE_MOST = 128 };

static NOT_A_ROOT struct {
  struct lock lock;
  struct work_buffer *full, *empty; /* under lock */
  size_t made, limit, empty_count;  /* buffers; under lock */
  uint32_t full_count;              /* atomic; written under lock */
  bool overflowed;                  /* atomic; written under lock */
  uintptr_t low, high;              /* under lock; inclusive */
  uint32_t waiting CACHE_ALIGNED;   /* atomic; markers without work.  All read it often, while others take the lock */
  uint32_t joined;                  /* atomic; markers that take part; only grows while marking */
} pool CACHE_ALIGNED = {.lock = LOCK_INIT(LOCK_RANK_WORK)};

static void push_empty_locked(struct work_buffer *buffer) {
  buffer->next = pool.empty;
  pool.empty = buffer;
  pool.empty_count++;
}

static struct work_buffer *map_chunk(void) {
  return persist_alloc(CHUNK_BUFFERS * sizeof(struct work_buffer), CACHE_LINE_BYTES, PERSIST_MARK);
}

static void add_chunk_locked(struct work_buffer *chunk) {
  for (size_t i = 0; i < CHUNK_BUFFERS; i++) push_empty_locked(&chunk[i]);
  pool.made += CHUNK_BUFFERS;
}

static bool may_make_more_locked(void) { return pool.limit == 0 || pool.made < pool.limit; }

static void make_buffers_locked(void) {
  struct work_buffer *chunk = may_make_more_locked() ? map_chunk() : NULL;
  if (chunk != NULL) add_chunk_locked(chunk);
}

int work_init(void) {
  lock_acquire(&pool.lock);
  if (pool.made == 0) make_buffers_locked();
  int error = pool.made != 0 ? 0 : -ENOMEM;
  lock_release(&pool.lock);
  return error;
}

struct work_buffer *work_get_empty(void) {
  lock_acquire(&pool.lock);
  if (pool.empty == NULL) make_buffers_locked();
  struct work_buffer *buffer = pool.empty;
  if (buffer != NULL) {
    pool.empty = buffer->next;
    pool.empty_count--;
    buffer->count = 0;
  }
  lock_release(&pool.lock);
  return buffer;
}

void work_put_empty(struct work_buffer *buffer) {
  lock_acquire(&pool.lock);
  push_empty_locked(buffer);
  lock_release(&pool.lock);
}

static bool reserve_is_low(void) {
  lock_acquire(&pool.lock);
  bool is_low = pool.empty_count < min_size(pool.made / RESERVE_DIVISOR, RESERVE_MOST) && may_make_more_locked();
  lock_release(&pool.lock);
  return is_low;
}

void work_keep_reserve(void) {
  while (reserve_is_low()) {
    struct work_buffer *chunk = map_chunk();
    if (chunk == NULL) return;
    os_populate(chunk, CHUNK_BUFFERS * sizeof *chunk);
    lock_acquire(&pool.lock);
    add_chunk_locked(chunk);
    lock_release(&pool.lock);
  }
}

void work_publish(struct work_buffer *buffer) {
  lock_acquire(&pool.lock);
  buffer->next = pool.full;
  pool.full = buffer;
  atomic_store_relaxed(&pool.full_count, pool.full_count + 1);
  lock_release(&pool.lock);
  if (atomic_load_relaxed(&pool.waiting) != 0) wake_one(&pool.full_count);
}

struct work_buffer *work_take(void) {
  if (atomic_load_relaxed(&pool.full_count) == 0) return NULL;
  lock_acquire(&pool.lock);
  struct work_buffer *buffer = pool.full;
  if (buffer != NULL) {
    pool.full = buffer->next;
    atomic_store_relaxed(&pool.full_count, pool.full_count - 1);
  }
  lock_release(&pool.lock);
  return buffer;
}

/* Pairs with the release of the lock under which the count is written. */
bool work_is_available(void) { return atomic_load_acquire(&pool.full_count) != 0; }

void work_begin(void) {
  atomic_store_relaxed(&pool.joined, 0u);
  atomic_store_relaxed(&pool.waiting, 0u);
}

void work_join(void) { atomic_add_acq_rel(&pool.joined, 1u); }

bool work_is_wanted(void) {
  return atomic_load_relaxed(&pool.waiting) != 0 && atomic_load_relaxed(&pool.full_count) == 0;
}

/* A marker that takes a buffer stops waiting before it does so: as long as one is not counted, work may still appear.  A
 * marker that leaves because all wait may miss a buffer published just before; whoever published it takes it back.  One that
 * joins when all wait finds nothing and is the last to wait. */
struct work_buffer *work_take_or_finish(void) {
  atomic_add_acq_rel(&pool.waiting, 1u);
  for (unsigned spins = 0;; spins++) {
    if (atomic_load_acquire(&pool.full_count) != 0) {
      atomic_sub_acq_rel(&pool.waiting, 1u);
      struct work_buffer *buffer = work_take();
      if (buffer != NULL) return buffer;
      atomic_add_acq_rel(&pool.waiting, 1u);
    }
    if (atomic_load_acquire(&pool.waiting) == atomic_load_acquire(&pool.joined)) {
      wake_all(&pool.full_count);
      return NULL;
    }
    if (spins < SPINS) {
      atomic_pause();
    } else {
      wait_on_word_for(&pool.full_count, 0, WAIT_NS);
    }
  }
}

void work_overflow(uintptr_t object) {
  lock_acquire(&pool.lock);
  if (!pool.overflowed || object < pool.low) pool.low = object;
  if (!pool.overflowed || object > pool.high) pool.high = object;
  atomic_store_release(&pool.overflowed, true);
  lock_release(&pool.lock);
}

bool work_has_overflowed(void) { return atomic_load_acquire(&pool.overflowed); }

bool work_take_overflow(uintptr_t *low, uintptr_t *high) {
  lock_acquire(&pool.lock);
  bool overflowed = pool.overflowed;
  *low = pool.low;
  *high = pool.high;
  atomic_store_relaxed(&pool.overflowed, false);
  lock_release(&pool.lock);
  return overflowed;
}

void work_forget(void) {
  for (struct work_buffer *buffer; (buffer = work_take()) != NULL;) work_put_empty(buffer);
  uintptr_t low, high;
  work_take_overflow(&low, &high);
}

void work_limit_buffers(size_t count) {
  lock_acquire(&pool.lock);
  pool.limit = count;
  lock_release(&pool.lock);
}
