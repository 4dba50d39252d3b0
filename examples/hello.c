#include <midden/midden.h>
#include <stdio.h>

struct node {
  struct node *next;
  int value;
};

int main(void) {
  struct node *list = NULL;
  for (int i = 0; i < 10000000; i++) {
    struct node *node = midden_alloc(sizeof *node); /* zeroed; nobody frees it */
    if (node == NULL) return 1;
    node->value = i;
    node->next = i % 1000 == 0 ? NULL : list; /* drops the list now and then */
    list = node;
  }

  struct midden_stats stats = {.size = sizeof stats};
  midden_stats(&stats);
  printf("the last node holds %d\n", list->value);
  printf("%llu MiB allocated, heap of %zu MiB, %llu collections, longest pause %.2f ms\n",
         (unsigned long long)stats.allocated >> 20, stats.heap_system >> 20, (unsigned long long)stats.collections,
         (double)stats.pause_max_ns / 1e6);
  return 0;
}
