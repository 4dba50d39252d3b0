/* Entries for objects whose end is told by a cleanup or a finalizer: each is told once, and never while somebody holds the
 * object.
 *
 * An entry lies in malloc's memory and carries the serial number of its node, 0 once that was told; it is used again then.
 * All functions may be called by all threads. */
#ifndef MIDDEN_TEST_SUPPORT_LEDGER_H
#define MIDDEN_TEST_SUPPORT_LEDGER_H

#include <pthread.h>

#include "support/nodes.h"

struct ledger_entry {
  uint64_t serial;           /* atomic */
  struct ledger_entry *next; /* among the free ones */
};

static struct {
  pthread_mutex_t mutex;
  struct ledger_entry *free;
  size_t made, told; /* atomic */
} ledger = {.mutex = PTHREAD_MUTEX_INITIALIZER};

__attribute__((unused)) static struct ledger_entry *ledger_add(uint64_t serial) {
  pthread_mutex_lock(&ledger.mutex);
  struct ledger_entry *entry = ledger.free;
  if (entry != NULL) ledger.free = entry->next;
  pthread_mutex_unlock(&ledger.mutex);
  if (entry == NULL) entry = malloc(sizeof(*entry));
  REQUIRE(entry != NULL, "the test itself is out of memory");
  entry->next = NULL;
  __atomic_store_n(&entry->serial, serial, __ATOMIC_RELEASE);
  __atomic_fetch_add(&ledger.made, 1, __ATOMIC_RELAXED);
  return entry;
}

/* For who holds the node. */
__attribute__((unused)) static void ledger_check(const struct ledger_entry *entry, const struct node *node) {
  uint64_t serial = __atomic_load_n(&entry->serial, __ATOMIC_ACQUIRE);
  REQUIRE(serial == node->serial, "the end of node %p, which is held, was told: 0x%" PRIx64 " for 0x%" PRIx64,
          (const void *)node, serial, node->serial);
}

/* Returns the serial number of the node that ended. */
__attribute__((unused)) static uint64_t ledger_tell(struct ledger_entry *entry) {
  uint64_t serial = __atomic_exchange_n(&entry->serial, 0, __ATOMIC_ACQ_REL);
  REQUIRE(serial != 0, "an end was told twice");
  __atomic_fetch_add(&ledger.told, 1, __ATOMIC_RELAXED);
  pthread_mutex_lock(&ledger.mutex);
  entry->next = ledger.free;
  ledger.free = entry;
  pthread_mutex_unlock(&ledger.mutex);
  return serial;
}

static inline size_t ledger_open(void) {
  size_t told = __atomic_load_n(&ledger.told, __ATOMIC_ACQUIRE);
  return __atomic_load_n(&ledger.made, __ATOMIC_ACQUIRE) - told;
}

#endif
