-- Drawing from skewed distributions, the same way each time. Read by load_texts.sql and generate.sql;
-- everything is temporary. A draw is a number from 0 to 1 that only depends on its key and its purpose.

CREATE OR REPLACE FUNCTION pg_temp.draw(key text, purpose text) RETURNS float8
LANGUAGE sql IMMUTABLE
AS $$ SELECT ('x' || substr(md5(purpose || ':' || key), 1, 8))::bit(32)::bigint / 4294967296.0::float8 $$;

-- The 27 states, roughly by how much they legislate: the first four have half of the documents.
CREATE OR REPLACE FUNCTION pg_temp.draw_state(u float8) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT (ARRAY['SP','MG','RJ','RS','PR','BA','PE','CE','SC','PA','GO','DF','AM','ES',
                  'MA','MT','PB','MS','RN','PI','AL','SE','TO','RO','AC','AP','RR'])
           [1 + width_bucket(u, ARRAY[.190,.305,.400,.465,.525,.580,.630,.670,.710,.745,.777,.808,.838,.862,
                                      .884,.905,.921,.936,.950,.961,.971,.979,.985,.990,.994,.997]::float8[])]
$$;

CREATE OR REPLACE FUNCTION pg_temp.draw_mode(u float8) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT (ARRAY['rodoviário','urbano','ferroviário','aquaviário','aéreo','dutoviário'])
           [1 + width_bucket(u, ARRAY[.50,.70,.81,.90,.97]::float8[])]
$$;

CREATE OR REPLACE FUNCTION pg_temp.draw_person(u float8, v float8, woman boolean) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT (CASE WHEN woman
                 THEN ARRAY['Antônia','Beatriz','Cecília','Débora','Graça','Inês','Joana','Lídia','Márcia','Rosângela']
                 ELSE ARRAY['Adalberto','Benedito','Cláudio','Emílio','Fábio','Heitor','Leônidas','Nélson','Otávio','Válter']
            END)[1 + floor(u * 10)::int]
           || ' ' ||
           (ARRAY['Abreu','Bragança','Cavalcante','Damasceno','Espíndola','Figueirôa','Guimarães','Holanda','Jatobá','Leitão',
                  'Magalhães','Nogueira','Onofre','Peçanha','Queirós','Rebouças','Siqueira','Tavares','Uchôa','Valença'])[1 + floor(v * v * 20)::int]
$$;

-- When a document was collected: within the five years up to as_of, more of them lately.
CREATE OR REPLACE FUNCTION pg_temp.draw_time(u float8, as_of timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE
AS $$ SELECT as_of - floor(power(u, 1.4) * 157766400) * interval '1 second' $$;
