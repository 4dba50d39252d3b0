#include "gc/work.h"

#include <errno.h>
#include <string.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/wait.h"
#include "meta/persist.h"
#include "os/os.h"

enum { CHUNK_BUFFERS = 8, SPINS = 200, WAIT_NS = 50000 };

/* A quarter of what there is, and more than threads fill between two slices of the driver. */
enum { RESERVE_DIVISOR = 4, RESERVE_MOST = 128 };

/* Where so many buffers wait, one that is mostly empty joins another. */
enum { ENOUGH = 16, JOIN_MOST_ITEMS = WORK_ITEMS / 4 };

/* A stack of buffers (Treiber, "Systems Programming: Coping with Parallelism", 1986): nobody waits for a thread that lost its
 * processor.  The head is an address and a tag that grows with each change (the ABA problem): whoever has read a head and its buffer's
 * next does not take a head for the same that has come back meanwhile.  Buffers are never unmapped, so that reading the next of
 * one that is another's by now does no harm. */
struct stack {
  uint64_t head;  /* atomic */
  uint32_t count; /* atomic; counted before they are pushed and after they are taken: never too few */
} CACHE_ALIGNED;

static NOT_A_ROOT struct {
  struct stack full, empty;
  struct lock lock;
  size_t made, limit;             /* buffers; under lock */
  bool overflowed;                /* atomic; written under lock */
  uintptr_t low, high;            /* under lock; inclusive */
  uint32_t waiting CACHE_ALIGNED; /* atomic; markers without work.  All read it often, while others change the stacks */
  uint32_t joined;                /* atomic; markers that take part; only grows while marking */
} pool CACHE_ALIGNED = {.lock = LOCK_INIT(LOCK_RANK_WORK)};

/* ---- the stacks ---- */

/* Addresses of programs have 48 bits at most unless they ask for more, and the lowest are 0. */
enum { ADDRESS_SHIFT = 16, TAG_BITS = ADDRESS_SHIFT + 6 };
#define TAG_MASK ((UINT64_C(1) << TAG_BITS) - 1)
_Static_assert(CACHE_LINE_BYTES >> (TAG_BITS - ADDRESS_SHIFT) != 0, "buffers lie at multiples of a cache line");

static struct work_buffer *buffer_of(uint64_t head) {
  return (struct work_buffer *)(uintptr_t)((head & ~TAG_MASK) >> ADDRESS_SHIFT);
}

/* What follows `head` when `buffer` is the first. */
static uint64_t next_head(uint64_t head, const struct work_buffer *buffer) {
  return (uint64_t)(uintptr_t)buffer << ADDRESS_SHIFT | ((head + 1) & TAG_MASK);
}

/* The release pairs with the acquire in pop, whoever pushed and popped in between: what the buffer holds is seen by who takes it. */
static void push(struct stack *stack, struct work_buffer *buffer) {
  atomic_add_acq_rel(&stack->count, 1u);
  uint64_t head = atomic_load_relaxed(&stack->head);
  do {
    atomic_store_relaxed(&buffer->next, buffer_of(head));
  } while (!atomic_cas_acq_rel(&stack->head, &head, next_head(head, buffer)));
}

static struct work_buffer *pop(struct stack *stack) {
  uint64_t head = atomic_load_acquire(&stack->head);
  struct work_buffer *buffer;
  do {
    buffer = buffer_of(head);
    if (buffer == NULL) return NULL;
  } while (!atomic_cas_acq_rel(&stack->head, &head, next_head(head, atomic_load_relaxed(&buffer->next))));
  atomic_sub_acq_rel(&stack->count, 1u);
  return buffer;
}

/* ---- buffers ---- */

static struct work_buffer *map_chunk(void) {
  return persist_alloc(CHUNK_BUFFERS * sizeof(struct work_buffer), CACHE_LINE_BYTES, PERSIST_MARK);
}

static bool may_make_more(void) {
  lock_acquire(&pool.lock);
  bool may = pool.limit == 0 || pool.made < pool.limit;
  if (may) pool.made += CHUNK_BUFFERS;
  lock_release(&pool.lock);
  return may;
}

static void count_not_made(void) {
  lock_acquire(&pool.lock);
  pool.made -= CHUNK_BUFFERS;
  lock_release(&pool.lock);
}

/* Without a lock: to map memory takes long. */
static bool make_buffers(bool touched) {
  if (!may_make_more()) return false;
  struct work_buffer *chunk = map_chunk();
  if (chunk == NULL) {
    count_not_made();
    return false;
  }
  CHECK((uintptr_t)(chunk + CHUNK_BUFFERS) >> (64 - ADDRESS_SHIFT) == 0, "no room for a tag beside %p", (void *)chunk);
  if (touched) os_populate(chunk, CHUNK_BUFFERS * sizeof *chunk);
  for (size_t i = 0; i < CHUNK_BUFFERS; i++) push(&pool.empty, &chunk[i]);
  return true;
}

static size_t made(void) {
  lock_acquire(&pool.lock);
  size_t count = pool.made;
  lock_release(&pool.lock);
  return count;
}

int work_init(void) { return made() != 0 || make_buffers(false) ? 0 : -ENOMEM; }

struct work_buffer *work_get_empty(void) {
  struct work_buffer *buffer;
  while ((buffer = pop(&pool.empty)) == NULL) {
    if (!make_buffers(false)) return NULL;
  }
  buffer->count = 0;
  return buffer;
}

void work_put_empty(struct work_buffer *buffer) { push(&pool.empty, buffer); }

void work_keep_reserve(void) {
  while (atomic_load_relaxed(&pool.empty.count) < min_size(made() / RESERVE_DIVISOR, RESERVE_MOST)) {
    if (!make_buffers(true)) return;
  }
}

/* What a thread makes grey at a time is often a single object.  Were each of them to keep a buffer, the pool would take a hundred times
 * the memory of what it holds. */
static struct work_buffer *join_another(struct work_buffer *buffer) {
  struct work_buffer *other = pop(&pool.full);
  if (other == NULL) return buffer;
  if (other->count > WORK_ITEMS - buffer->count) {
    push(&pool.full, other);
    return buffer;
  }
  memcpy(&other->items[other->count], buffer->items, buffer->count * sizeof buffer->items[0]);
  other->count += buffer->count;
  work_put_empty(buffer);
  return other;
}

void work_publish(struct work_buffer *buffer) {
  if (buffer->count <= JOIN_MOST_ITEMS && atomic_load_relaxed(&pool.full.count) > ENOUGH) buffer = join_another(buffer);
  push(&pool.full, buffer);
  if (atomic_load_relaxed(&pool.waiting) != 0) wake_one(&pool.full.count);
}

struct work_buffer *work_take(void) {
  return atomic_load_relaxed(&pool.full.count) == 0 ? NULL : pop(&pool.full);
}

/* Pairs with the release when a buffer was taken: who sees none sees what its taker did before. */
bool work_is_available(void) { return atomic_load_acquire(&pool.full.count) != 0; }

void work_begin(void) {
  atomic_store_relaxed(&pool.joined, 0u);
  atomic_store_relaxed(&pool.waiting, 0u);
}

void work_join(void) { atomic_add_acq_rel(&pool.joined, 1u); }

bool work_is_wanted(void) {
  return atomic_load_relaxed(&pool.waiting) != 0 && atomic_load_relaxed(&pool.full.count) == 0;
}

/* A marker that takes a buffer stops waiting before it does so: as long as one is not counted, work may still appear.  A
 * marker that leaves because all wait may miss a buffer published just before; whoever published it takes it back.  One that
 * joins when all wait finds nothing and is the last to wait. */
struct work_buffer *work_take_or_finish(void) {
  atomic_add_acq_rel(&pool.waiting, 1u);
  for (unsigned spins = 0;; spins++) {
    if (atomic_load_acquire(&pool.full.count) != 0) {
      atomic_sub_acq_rel(&pool.waiting, 1u);
      struct work_buffer *buffer = work_take();
      if (buffer != NULL) return buffer;
      atomic_add_acq_rel(&pool.waiting, 1u);
    }
    if (atomic_load_acquire(&pool.waiting) == atomic_load_acquire(&pool.joined)) {
      wake_all(&pool.full.count);
      return NULL;
    }
    if (spins < SPINS) {
      atomic_pause();
    } else {
      wait_on_word_for(&pool.full.count, 0, WAIT_NS);
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
