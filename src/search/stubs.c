/* Stands in for parts that are not built yet; goes when the last one is there. */
#include "pgopt.h"
#include "access/relscan.h"
#include "handler.h"
#include "headline.h"
#include "search.h"
#include "analysis.h"
#include "query.h"
#include "segment.h"
#include "pages.h"
#include "settings.h"
#include "document.h"
#include "inverter.h"
#include "pending.h"
#include "topk.h"
#include "scan.h"

__attribute__((weak)) Analyzer *
analyzer_create(Oid config, const RestoreTable *restore, MemoryContext parent)
{
	elog(ERROR, "not built yet: analyzer_create");
	pg_unreachable();
}

__attribute__((weak)) void
analyzer_free(Analyzer *analyzer)
{
	elog(ERROR, "not built yet: analyzer_free");
}

__attribute__((weak)) bool
analyzer_is_portuguese(const Analyzer *analyzer)
{
	elog(ERROR, "not built yet: analyzer_is_portuguese");
	pg_unreachable();
}

__attribute__((weak)) const TokenList *
analyzer_run(Analyzer *analyzer, const char *text, int length)
{
	elog(ERROR, "not built yet: analyzer_run");
	pg_unreachable();
}

__attribute__((weak)) AnalyzerWord *
analyzer_word(Analyzer *analyzer, const char *folded, int length)
{
	elog(ERROR, "not built yet: analyzer_word");
	pg_unreachable();
}

__attribute__((weak)) void
analyzer_clear_tags(Analyzer *analyzer)
{
	elog(ERROR, "not built yet: analyzer_clear_tags");
}

__attribute__((weak)) Size
analyzer_memory(const Analyzer *analyzer)
{
	elog(ERROR, "not built yet: analyzer_memory");
	pg_unreachable();
}

__attribute__((weak)) uint64
analyzer_fingerprint(Analyzer *analyzer)
{
	elog(ERROR, "not built yet: analyzer_fingerprint");
	pg_unreachable();
}

__attribute__((weak)) RestoreBuilder *
restore_builder_create(MemoryContext parent)
{
	elog(ERROR, "not built yet: restore_builder_create");
	pg_unreachable();
}

__attribute__((weak)) void
restore_builder_add(RestoreBuilder *builder, const char *text, int length)
{
	elog(ERROR, "not built yet: restore_builder_add");
}

__attribute__((weak)) bytea *
restore_builder_finish(RestoreBuilder *builder, uint32 *nwords)
{
	elog(ERROR, "not built yet: restore_builder_finish");
	pg_unreachable();
}

__attribute__((weak)) RestoreTable *
restore_table_load(const char *bytes, Size size, MemoryContext parent)
{
	elog(ERROR, "not built yet: restore_table_load");
	pg_unreachable();
}

__attribute__((weak)) char *
search_fold(const char *text, int length, int *result_length)
{
	elog(ERROR, "not built yet: search_fold");
	pg_unreachable();
}

__attribute__((weak)) SearchQuery *
search_query_parse(Analyzer *analyzer, const char *text, int length, const char *const *field_names,
				   int nfields, uint32 fields)
{
	elog(ERROR, "not built yet: search_query_parse");
	pg_unreachable();
}

__attribute__((weak)) void
correction_begin(Correction *correction, const char *folded, int length, int flags)
{
	elog(ERROR, "not built yet: correction_begin");
}

__attribute__((weak)) void
correction_scan(Correction *corrections, int n, NextWord next, void *source)
{
	elog(ERROR, "not built yet: correction_scan");
}

__attribute__((weak)) SegmentReader *
segment_open(Relation index, const SearchSettings *settings, const SegmentEntry *entry, bool *stale)
{
	elog(ERROR, "not built yet: segment_open");
	pg_unreachable();
}

__attribute__((weak)) SegmentReader *
segment_open_temporary(BufFile *file, const SearchSettings *settings, SegmentHeader *header)
{
	elog(ERROR, "not built yet: segment_open_temporary");
	pg_unreachable();
}

__attribute__((weak)) void
segment_close(SegmentReader *reader)
{
	elog(ERROR, "not built yet: segment_close");
}

__attribute__((weak)) const SegmentHeader *
segment_header(const SegmentReader *reader)
{
	elog(ERROR, "not built yet: segment_header");
	pg_unreachable();
}

__attribute__((weak)) bool
segment_find_term(SegmentReader *reader, const char *term, int length, TermInfo *info)
{
	elog(ERROR, "not built yet: segment_find_term");
	pg_unreachable();
}

__attribute__((weak)) void
segment_tids(SegmentReader *reader, uint32 from, uint32 n, ItemPointerData *tids)
{
	elog(ERROR, "not built yet: segment_tids");
}

__attribute__((weak)) void
segment_lengths(SegmentReader *reader, uint32 from, uint32 n, uint8 *lengths)
{
	elog(ERROR, "not built yet: segment_lengths");
}

__attribute__((weak)) void
segment_codes(SegmentReader *reader, int filter, uint32 from, uint32 n, uint32 *codes)
{
	elog(ERROR, "not built yet: segment_codes");
}

__attribute__((weak)) void
segment_deleted(SegmentReader *reader, uint32 from, uint32 n, uint64 *bits)
{
	elog(ERROR, "not built yet: segment_deleted");
}

__attribute__((weak)) uint32
segment_filter_upto(SegmentReader *reader, int filter, Datum value, bool inclusive)
{
	elog(ERROR, "not built yet: segment_filter_upto");
	pg_unreachable();
}

__attribute__((weak)) Datum
segment_filter_value(SegmentReader *reader, int filter, uint32 code)
{
	elog(ERROR, "not built yet: segment_filter_value");
	pg_unreachable();
}

__attribute__((weak)) void
posting_open(PostingCursor *cursor, SegmentReader *reader, const TermInfo *info)
{
	elog(ERROR, "not built yet: posting_open");
}

__attribute__((weak)) uint32
posting_block_last(PostingCursor *cursor, uint32 block)
{
	elog(ERROR, "not built yet: posting_block_last");
	pg_unreachable();
}

__attribute__((weak)) uint32
posting_block_impact(PostingCursor *cursor, uint32 block)
{
	elog(ERROR, "not built yet: posting_block_impact");
	pg_unreachable();
}

__attribute__((weak)) uint32
posting_seek(PostingCursor *cursor, uint32 from, uint32 target)
{
	elog(ERROR, "not built yet: posting_seek");
	pg_unreachable();
}

__attribute__((weak)) void
posting_load(PostingCursor *cursor, uint32 block)
{
	elog(ERROR, "not built yet: posting_load");
}

__attribute__((weak)) int
posting_positions(PostingCursor *cursor, int i, const uint32 **positions)
{
	elog(ERROR, "not built yet: posting_positions");
	pg_unreachable();
}

__attribute__((weak)) void
posting_close(PostingCursor *cursor)
{
	elog(ERROR, "not built yet: posting_close");
}

__attribute__((weak)) TermCursor *
term_cursor_open(SegmentReader *reader)
{
	elog(ERROR, "not built yet: term_cursor_open");
	pg_unreachable();
}

__attribute__((weak)) bool
term_cursor_next(TermCursor *cursor, const char **term, int *length, TermInfo *info)
{
	elog(ERROR, "not built yet: term_cursor_next");
	pg_unreachable();
}

__attribute__((weak)) void
term_cursor_close(TermCursor *cursor)
{
	elog(ERROR, "not built yet: term_cursor_close");
}

__attribute__((weak)) WordCursor *
word_cursor_open(SegmentReader *reader)
{
	elog(ERROR, "not built yet: word_cursor_open");
	pg_unreachable();
}

__attribute__((weak)) bool
word_cursor_next(WordCursor *cursor, const char **word, int *length, uint32 *df)
{
	elog(ERROR, "not built yet: word_cursor_next");
	pg_unreachable();
}

__attribute__((weak)) void
word_cursor_close(WordCursor *cursor)
{
	elog(ERROR, "not built yet: word_cursor_close");
}

__attribute__((weak)) SegmentWriter *
segment_writer_begin(Relation index, const SearchSettings *settings, uint64 id,
					 float4 average_length)
{
	elog(ERROR, "not built yet: segment_writer_begin");
	pg_unreachable();
}

__attribute__((weak)) SegmentWriter *
segment_writer_begin_temporary(BufFile *file, const SearchSettings *settings, float4 average_length)
{
	elog(ERROR, "not built yet: segment_writer_begin_temporary");
	pg_unreachable();
}

__attribute__((weak)) void
segment_writer_add_document(SegmentWriter *writer, ItemPointer tid, uint32 length)
{
	elog(ERROR, "not built yet: segment_writer_add_document");
}

__attribute__((weak)) void
segment_writer_begin_filter(SegmentWriter *writer, int filter, uint32 nvalues)
{
	elog(ERROR, "not built yet: segment_writer_begin_filter");
}

__attribute__((weak)) void
segment_writer_add_filter_value(SegmentWriter *writer, Datum value)
{
	elog(ERROR, "not built yet: segment_writer_add_filter_value");
}

__attribute__((weak)) void
segment_writer_add_filter_code(SegmentWriter *writer, uint32 code)
{
	elog(ERROR, "not built yet: segment_writer_add_filter_code");
}

__attribute__((weak)) void
segment_writer_begin_term(SegmentWriter *writer, const char *term, int length)
{
	elog(ERROR, "not built yet: segment_writer_begin_term");
}

__attribute__((weak)) void
segment_writer_add_posting(SegmentWriter *writer, uint32 doc, const uint32 *tf,
						   const uint32 *positions, uint32 npositions)
{
	elog(ERROR, "not built yet: segment_writer_add_posting");
}

__attribute__((weak)) void
segment_writer_end_term(SegmentWriter *writer)
{
	elog(ERROR, "not built yet: segment_writer_end_term");
}

__attribute__((weak)) void
segment_writer_add_word(SegmentWriter *writer, const char *word, int length, uint32 df)
{
	elog(ERROR, "not built yet: segment_writer_add_word");
}

__attribute__((weak)) void
segment_writer_set_unlogged(SegmentWriter *writer)
{
	elog(ERROR, "not built yet: segment_writer_set_unlogged");
}

__attribute__((weak)) void
segment_writer_finish(SegmentWriter *writer, SegmentEntry *entry, SegmentHeader **header)
{
	elog(ERROR, "not built yet: segment_writer_finish");
}

__attribute__((weak)) void
segment_merge(SegmentReader **readers, int nreaders, SegmentWriter *writer)
{
	elog(ERROR, "not built yet: segment_merge");
}

__attribute__((weak)) Document *
document_analyze(Analyzer *analyzer, const SearchSettings *settings, const Datum *values,
				 const bool *isnull)
{
	elog(ERROR, "not built yet: document_analyze");
	pg_unreachable();
}

__attribute__((weak)) Analyzer *
search_analyzer(Relation index)
{
	elog(ERROR, "not built yet: search_analyzer");
	pg_unreachable();
}

__attribute__((weak)) int
term_compare(const char *a, int a_length, const char *b, int b_length)
{
	elog(ERROR, "not built yet: term_compare");
	pg_unreachable();
}

__attribute__((weak)) Inverter *
inverter_create(const SearchSettings *settings, Analyzer *analyzer, MemoryContext parent)
{
	elog(ERROR, "not built yet: inverter_create");
	pg_unreachable();
}

__attribute__((weak)) void
inverter_add(Inverter *inverter, ItemPointer tid, const Datum *values, const bool *isnull)
{
	elog(ERROR, "not built yet: inverter_add");
}

__attribute__((weak)) void
inverter_add_pending(Inverter *inverter, const PendingDocument *document)
{
	elog(ERROR, "not built yet: inverter_add_pending");
}

__attribute__((weak)) Size
inverter_memory(const Inverter *inverter)
{
	elog(ERROR, "not built yet: inverter_memory");
	pg_unreachable();
}

__attribute__((weak)) uint32
inverter_documents(const Inverter *inverter)
{
	elog(ERROR, "not built yet: inverter_documents");
	pg_unreachable();
}

__attribute__((weak)) uint64
inverter_total_length(const Inverter *inverter)
{
	elog(ERROR, "not built yet: inverter_total_length");
	pg_unreachable();
}

__attribute__((weak)) void
inverter_write(Inverter *inverter, SegmentWriter *writer)
{
	elog(ERROR, "not built yet: inverter_write");
}

__attribute__((weak)) void
inverter_reset(Inverter *inverter)
{
	elog(ERROR, "not built yet: inverter_reset");
}

__attribute__((weak)) void
inverter_free(Inverter *inverter)
{
	elog(ERROR, "not built yet: inverter_free");
}

__attribute__((weak)) void
pending_insert(Relation index, const SearchSettings *settings, ItemPointer tid,
			   const Document *document, const Datum *values, const bool *isnull)
{
	elog(ERROR, "not built yet: pending_insert");
}

__attribute__((weak)) PendingReader *
pending_open(Relation index, const SearchSettings *settings, const SearchMeta *meta, bool *stale)
{
	elog(ERROR, "not built yet: pending_open");
	pg_unreachable();
}

__attribute__((weak)) bool
pending_next(PendingReader *reader, PendingDocument *document)
{
	elog(ERROR, "not built yet: pending_next");
	pg_unreachable();
}

__attribute__((weak)) void
pending_close(PendingReader *reader)
{
	elog(ERROR, "not built yet: pending_close");
}

__attribute__((weak)) bool
pending_find_term(const PendingDocument *document, const char *term, int length, uint32 hash,
				  uint32 *tf, uint32 **positions, uint32 *npositions)
{
	elog(ERROR, "not built yet: pending_find_term");
	pg_unreachable();
}

__attribute__((weak)) bool
pending_next_term(const PendingDocument *document, uint32 *place, const char **term, int *length,
				  uint32 *tf, uint32 **positions, uint32 *npositions)
{
	elog(ERROR, "not built yet: pending_next_term");
	pg_unreachable();
}

__attribute__((weak)) bool
pending_next_word(const PendingDocument *document, uint32 *place, const char **word, int *length)
{
	elog(ERROR, "not built yet: pending_next_word");
	pg_unreachable();
}

__attribute__((weak)) uint32
pending_flush(Relation index)
{
	elog(ERROR, "not built yet: pending_flush");
	pg_unreachable();
}

__attribute__((weak)) SearchView *
search_view_open(Relation index, const SearchQuery *query, ScanKey filters, int nfilters)
{
	elog(ERROR, "not built yet: search_view_open");
	pg_unreachable();
}

__attribute__((weak)) void
search_view_close(SearchView *view)
{
	elog(ERROR, "not built yet: search_view_close");
}

__attribute__((weak)) void
search_view_add_stats(SearchView *view, SearchStats *stats)
{
	elog(ERROR, "not built yet: search_view_add_stats");
}

__attribute__((weak)) void
search_view_set_stats(SearchView *view, const SearchStats *stats)
{
	elog(ERROR, "not built yet: search_view_set_stats");
}

__attribute__((weak)) int
search_topk(SearchView *view, int k, SearchHit *hits)
{
	elog(ERROR, "not built yet: search_topk");
	pg_unreachable();
}

__attribute__((weak)) int
search_exhaustive(SearchView *view, int k, SearchHit *hits)
{
	elog(ERROR, "not built yet: search_exhaustive");
	pg_unreachable();
}

__attribute__((weak)) bool
search_next(SearchView *view, ItemPointer tid)
{
	elog(ERROR, "not built yet: search_next");
	pg_unreachable();
}

__attribute__((weak)) void
search_matches(SearchView *view, const int *filters, int nfilters, SearchMatch match, void *state)
{
	elog(ERROR, "not built yet: search_matches");
}

__attribute__((weak)) Datum
search_match_value(SearchView *view, int part, int filter, uint32 code, bool *isnull)
{
	elog(ERROR, "not built yet: search_match_value");
	pg_unreachable();
}

__attribute__((weak)) text *
search_headline(Analyzer *analyzer, const SearchQuery *query, const char *text, int length,
				const HeadlineOptions *options)
{
	elog(ERROR, "not built yet: search_headline");
	pg_unreachable();
}

const HeadlineOptions headline_defaults __attribute__((weak)) = {0};

__attribute__((weak)) IndexScanDesc
search_beginscan(Relation index, int nkeys, int norderbys)
{
	elog(ERROR, "not built yet: search_beginscan");
	pg_unreachable();
}

__attribute__((weak)) void
search_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	elog(ERROR, "not built yet: search_rescan");
}

__attribute__((weak)) bool
search_gettuple(IndexScanDesc scan, ScanDirection direction)
{
	elog(ERROR, "not built yet: search_gettuple");
	pg_unreachable();
}

__attribute__((weak)) void
search_endscan(IndexScanDesc scan)
{
	elog(ERROR, "not built yet: search_endscan");
}

__attribute__((weak)) const CompiledQuery *
search_compile(Relation index, const PgoptQuery *query)
{
	elog(ERROR, "not built yet: search_compile");
	pg_unreachable();
}

__attribute__((weak)) bool
search_evaluate(const CompiledQuery *compiled, const Document *document, Score *score)
{
	elog(ERROR, "not built yet: search_evaluate");
	pg_unreachable();
}

__attribute__((weak)) bool
search_known_score(Oid index, const PgoptQuery *query, ItemPointer tid, Score *score)
{
	elog(ERROR, "not built yet: search_known_score");
	pg_unreachable();
}


#include "build.h"

__attribute__((weak)) IndexBuildResult *
search_build(Relation heap, Relation index, struct IndexInfo *info)
{
	(void) search_settings(index);
	elog(ERROR, "not built yet: search_build");
	pg_unreachable();
}

__attribute__((weak)) void
search_build_empty(Relation index)
{
	elog(ERROR, "not built yet: search_build_empty");
}

__attribute__((weak)) char *
search_build_phase_name(int64 phase)
{
	return NULL;
}
