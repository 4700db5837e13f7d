/*
 * advisor.c
 *		Starts the room: its hooks into the planner, and its shared memory.
 */
#include "pgopt.h"

#include "advisor.h"
#include "hypothetical.h"
#include "progress.h"

void
advisor_init(void)
{
	hypothetical_init();
	progress_init();
}
