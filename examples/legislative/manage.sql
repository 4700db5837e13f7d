-- Hands the views of views.sql over to pgopt.
--
--     psql -d legislative -f manage.sql
--
-- Can be run again: the same settings are set again.

\set ON_ERROR_STOP on

-- after 50 changes, or after 30 minutes with at least one
SELECT pgopt_manage('mv_document_statistics',
                    strategy => 'threshold',
                    threshold_changes => 50,
                    refresh_interval => '30 minutes',
                    priority => 1);

-- every 2 hours, unless nothing changed
SELECT pgopt_manage('mv_transport_summary',
                    strategy => 'scheduled',
                    refresh_interval => '2 hours',
                    priority => 2);

-- as soon as mv_document_statistics, which it reads, has been refreshed
SELECT pgopt_manage('mv_state_overview',
                    strategy => 'immediate',
                    priority => 3);
