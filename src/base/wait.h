/* Sleeping until a word changes: the contract that base needs from the OS layer, which implements it. */
#ifndef MIDDEN_BASE_WAIT_H
#define MIDDEN_BASE_WAIT_H

#include <stdint.h>

/* Sleeps while *word == expected.  May return early for no reason: callers test again. */
void wait_on_word(uint32_t *word, uint32_t expected);

/* The same for at most timeout_ns nanoseconds. */
void wait_on_word_for(uint32_t *word, uint32_t expected, uint64_t timeout_ns);

/* Wakes one sleeper, or all of them. */
void wake_one(uint32_t *word);
void wake_all(uint32_t *word);

/* Gives up the processor for a moment. */
void wait_yield(void);

/* Of a thread that works beside others, which matter more. */
struct wait_manners {
  uint64_t keeps_until_ns;
};

/* Between slices of work: lets those run that wait for the processor, which they would get at the scheduler's next tick
 * otherwise, milliseconds later.  Where they had it for long, the thread keeps it a third as long: where all processors are
 * wanted a quarter of one is left to it. */
void wait_give_way(struct wait_manners *manners);

#endif
