/* Weak stand-ins for what has not landed yet; goes away before the room is complete. */
#include "pgopt.h"


#include "advisor.h"
#include "candidates.h"
#include "hypothetical.h"
#include "selection.h"
#include "statement.h"
#include "workload.h"
#include "writes.h"

#define WEAK    __attribute__((weak))
#define MISSING elog(ERROR, "%s has not landed", __func__)


WEAK void
candidates_init(void)
{
}
