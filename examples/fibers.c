/* Fibers: a pipeline of generators, and what becomes of one that nobody wants to hear of any more.
 *
 * The sieve of Eratosthenes as a chain of fibers: the first yields the numbers from 2 on, and each prime adds a filter that
 * lets through what it does not divide.  Nobody frees anything: the chain is kept by a reference to its last fiber, whose
 * stack refers to the one before it, and so on down. */
#include <assert.h>
#include <midden/midden.h>
#include <stdint.h>
#include <stdio.h>

enum { PRIMES = 1000 };

static intptr_t next_of(struct midden_fiber *generator) {
  void *number;
  int error = midden_fiber_resume(generator, NULL, &number);
  assert(error == 0);
  (void)error;
  return (intptr_t)number;
}

static void *count_up(void *argument) {
  for (intptr_t number = (intptr_t)argument; number != 0; number++) midden_fiber_yield((void *)number);
  return NULL;
}

/* A filter's own data, kept by nothing but its stack. */
struct filter {
  struct midden_fiber *source;
  intptr_t prime;
};

static void *let_through(void *argument) {
  const struct filter *filter = argument;
  intptr_t number;
  while ((number = next_of(filter->source)) != 0) {
    if (number % filter->prime != 0) midden_fiber_yield((void *)number);
  }
  return NULL;
}

static struct midden_fiber *filter_new(struct midden_fiber *source, intptr_t prime) {
  struct filter *filter = midden_alloc(sizeof *filter);
  assert(filter != NULL);
  *filter = (struct filter){.source = source, .prime = prime};
  struct midden_fiber *fiber = midden_fiber_new(let_through, filter, 0);
  assert(fiber != NULL);
  return fiber;
}

static struct midden_stats stats_now(void) {
  struct midden_stats stats = {.size = sizeof stats};
  midden_stats(&stats);
  return stats;
}

/* Not inlined, so that no word of the caller's frame refers to the chain afterwards. */
__attribute__((noinline)) static intptr_t last_prime(void) {
  struct midden_fiber *chain = midden_fiber_new(count_up, (void *)(intptr_t)2, 0);
  intptr_t prime = 0;
  assert(chain != NULL);
  for (int i = 0; i < PRIMES; i++) {
    prime = next_of(chain);
    chain = filter_new(chain, prime);
  }
  midden_collect();
  struct midden_stats stats = stats_now();
  printf("%zu fibers, %zu KiB of their stacks in use\n", stats.fibers, stats.stacks_scanned >> 10);
  assert(stats.fibers == PRIMES + 1);
  return prime;
}

int main(void) {
  intptr_t prime = last_prime();
  printf("prime %d is %ld\n", PRIMES, (long)prime);
  assert(prime == 7919);
  midden_collect();
  printf("%zu fibers are left\n", stats_now().fibers);
  assert(stats_now().fibers < PRIMES / 10);
  return 0;
}
