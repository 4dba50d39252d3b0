/* What differs from one kernel to the next, for tests of os_dirty.h. */
#ifndef MIDDEN_TEST_SUPPORT_OS_DIRTY_TEST_H
#define MIDDEN_TEST_SUPPORT_OS_DIRTY_TEST_H

#include "os/os_dirty.h"
#include "support/heap_test.h"

/* Whether the kernel gives memory to an EMPTY page that is read, where most show the page of zeros. */
static inline bool test_reads_give_memory(void) {
  size_t bytes = os_page_bytes(), count;
  char *start = os_reserve(bytes, bytes);
  REQUIRE(start != NULL && os_commit(start, bytes) == 0 && os_dirty_watch(start, bytes) == 0, "watch");
  (void)*(volatile char *)start;
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + bytes}, written;
  REQUIRE(os_dirty_scan(&rest, false, &written, 1, &count) == 0, "scan");
  os_unmap(start, bytes);
  return count == 1;
}

#endif
