#include "base/lock.h"

#include "base/check.h"
#include "base/wait.h"

/* PASS_LIMIT times as long as the other, 0.1 to 0.2 ms, suffices for a thread to wake up where a processor is free. */
enum { SPIN_LIMIT = 40, PASS_LIMIT = 64 };

void lock_init(struct lock *lock, enum lock_rank rank) { *lock = (struct lock)LOCK_INIT((uint8_t)rank); }

/* The three-value futex lock of Drepper, "Futexes Are Tricky" (2011). */
void lock_acquire_slow(struct lock *lock) {
  for (int i = 0; i < SPIN_LIMIT; i++) {
    uint32_t expected = 0;
    if (atomic_load_relaxed(&lock->word) == 0 && atomic_cas_acquire(&lock->word, &expected, 1u)) return;
    atomic_pause();
  }
  while (atomic_exchange_acquire(&lock->word, 2u) != 0) wait_on_word(&lock->word, 2);
}

void lock_release_slow(struct lock *lock) { wake_one(&lock->word); }

static bool is_taken_soon(const struct lock *lock) {
  for (int i = 0; i < SPIN_LIMIT; i++) {
    if (atomic_load_relaxed(&lock->word) != 0) return true;
    atomic_pause();
  }
  return false;
}

void lock_pass(struct lock *lock) {
  lock_note_released(lock);
  if (atomic_exchange_acq_rel(&lock->word, 0u) == 2) {
    wake_one(&lock->word);
    for (int i = 0; i < PASS_LIMIT && !is_taken_soon(lock); i++) wait_yield(); /* it may wait for this processor */
  }
  lock_acquire(lock);
}

#ifdef MIDDEN_ASSERTS

enum { HELD_MAX = 16 };
static THREAD_LOCAL const struct lock *held[HELD_MAX];
static THREAD_LOCAL unsigned held_count;

void lock_note_acquired(struct lock *lock) {
  for (unsigned i = 0; i < held_count; i++) {
    const struct lock *other = held[i];
    CHECK(other->rank < lock->rank, "lock of rank %d taken while one of rank %d is held", lock->rank, other->rank);
  }
  CHECK(held_count < HELD_MAX, "too many locks held");
  held[held_count++] = lock;
}

void lock_note_released(struct lock *lock) {
  for (unsigned i = held_count; i-- > 0;) {
    if (held[i] != lock) continue;
    held[i] = held[--held_count];
    return;
  }
  fatal("released a lock of rank %d that this thread does not hold", lock->rank);
}

bool lock_is_held_by_me(const struct lock *lock) {
  for (unsigned i = 0; i < held_count; i++) {
    if (held[i] == lock) return true;
  }
  return false;
}

#endif
