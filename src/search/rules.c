/*
 * rules.c
 *		Accents for folded words by their endings, and endings that the stemmer
 *		does not bring together.
 *
 * Accents matter only where the server's stemmer looks for them: in -ção,
 * -ência, -ável and their like, and at the end of a word, where it takes
 * -em for that of a verb but not -ém.  So the rules know endings, and some
 * words that are frequent and do not follow them.
 *
 * Owns nothing.  Cost: a walk through short lists, once for each distinct word.
 */
#include "postgres.h"

#include "analysis_private.h"

typedef struct Ending
{
	const char *before;
	const char *after;
	int least; /* bytes that must come before it; WHOLE: none may */
} Ending;

#define WHOLE (-1)

/* From folded to accented.  The first that fits counts; a plural in -s follows its singular. */
static const Ending accents[] = {
	/* words that no rule below is for */
	{"materia", "matéria", WHOLE},
	{"bacteria", "bactéria", WHOLE},
	{"arteria", "artéria", WHOLE},
	{"miseria", "miséria", WHOLE},
	{"pilheria", "pilhéria", WHOLE},
	{"historia", "história", WHOLE},
	{"memoria", "memória", WHOLE},
	{"notoria", "notória", WHOLE},
	{"acessoria", "acessória", WHOLE},
	{"porem", "porém", WHOLE},
	{"alem", "além", WHOLE},
	{"aquem", "aquém", WHOLE},
	{"recem", "recém", WHOLE},
	{"refem", "refém", WHOLE},
	{"alguem", "alguém", WHOLE},
	{"ninguem", "ninguém", WHOLE},
	{"armazem", "armazém", WHOLE},
	{"convem", "convém", WHOLE},
	{"provem", "provém", WHOLE},
	{"advem", "advém", WHOLE},
	{"sobrevem", "sobrevém", WHOLE},
	{"intervem", "intervém", WHOLE},
	{"contem", "contém", WHOLE},
	{"mantem", "mantém", WHOLE},
	{"detem", "detém", WHOLE},
	{"retem", "retém", WHOLE},
	{"obtem", "obtém", WHOLE},
	{"abstem", "abstém", WHOLE},
	{"sustem", "sustém", WHOLE},
	{"entretem", "entretém", WHOLE},
	{"atraves", "através", WHOLE},
	{"reves", "revés", WHOLE},
	{"conves", "convés", WHOLE},
	{"portugues", "português", WHOLE},
	{"ingles", "inglês", WHOLE},
	{"frances", "francês", WHOLE},
	{"chines", "chinês", WHOLE},
	{"japones", "japonês", WHOLE},
	{"holandes", "holandês", WHOLE},
	{"libanes", "libanês", WHOLE},
	{"campones", "camponês", WHOLE},
	{"burgues", "burguês", WHOLE},
	{"interpos", "interpôs", WHOLE},
	{"propos", "propôs", WHOLE},
	{"dispos", "dispôs", WHOLE},
	{"compos", "compôs", WHOLE},
	{"supos", "supôs", WHOLE},
	{"impos", "impôs", WHOLE},
	{"expos", "expôs", WHOLE},
	{"opos", "opôs", WHOLE},
	{"repos", "repôs", WHOLE},
	{"alugueis", "aluguéis", WHOLE},
	{"papeis", "papéis", WHOLE},
	{"paineis", "painéis", WHOLE},
	{"hoteis", "hotéis", WHOLE},
	{"moteis", "motéis", WHOLE},
	{"quarteis", "quartéis", WHOLE},
	{"carteis", "cartéis", WHOLE},
	{"coroneis", "coronéis", WHOLE},
	{"decibeis", "decibéis", WHOLE},
	{"fieis", "fiéis", WHOLE},
	{"infieis", "infiéis", WHOLE},
	{"aneis", "anéis", WHOLE},
	{"crueis", "cruéis", WHOLE},
	{"depois", "depois", WHOLE},
	{"manha", "manhã", WHOLE},
	{"amanha", "amanhã", WHOLE},
	{"irma", "irmã", WHOLE},
	{"crista", "cristã", WHOLE},
	{"cidada", "cidadã", WHOLE},
	{"alema", "alemã", WHOLE},
	{"guardia", "guardiã", WHOLE},
	/* nouns in -aria and -oria, verbs in -aria and -ancia: nothing to restore */
	{"secretaria", "secretaria", 0},
	{"portaria", "portaria", WHOLE},
	{"auditoria", "auditoria", WHOLE},
	{"reitoria", "reitoria", 0},
	{"autoria", "autoria", 0},
	{"tutoria", "tutoria", WHOLE},
	{"relatoria", "relatoria", WHOLE},
	{"haria", "haria", 1},
	{"zaria", "zaria", 1},
	{"maria", "maria", WHOLE},
	{"cavalaria", "cavalaria", WHOLE},
	{"infantaria", "infantaria", WHOLE},
	{"tesouraria", "tesouraria", WHOLE},
	{"livraria", "livraria", WHOLE},
	{"padaria", "padaria", WHOLE},
	{"drogaria", "drogaria", WHOLE},
	{"mercearia", "mercearia", WHOLE},
	{"marcenaria", "marcenaria", WHOLE},
	{"carpintaria", "carpintaria", WHOLE},
	{"escadaria", "escadaria", WHOLE},
	{"pescaria", "pescaria", WHOLE},
	{"estaria", "estaria", WHOLE},
	{"demandaria", "demandaria", WHOLE},
	{"gostaria", "gostaria", WHOLE},
	{"bastaria", "bastaria", WHOLE},
	{"passaria", "passaria", WHOLE},
	{"resultaria", "resultaria", WHOLE},
	{"acarretaria", "acarretaria", WHOLE},
	{"ficaria", "ficaria", 0},
	{"plicaria", "plicaria", 1},
	{"consubstancia", "consubstancia", WHOLE},
	{"financia", "financia", WHOLE},
	{"presencia", "presencia", WHOLE},
	{"sentencia", "sentencia", WHOLE},
	/* endings */
	{"cao", "ção", 1},
	{"coes", "ções", 1},
	{"ao", "ão", 1},
	{"oes", "ões", 2},
	{"aes", "ães", 3},
	{"ois", "óis", 3},
	{"encia", "ência", 1},
	{"ancia", "ância", 1},
	{"avel", "ável", 1},
	{"aveis", "áveis", 1},
	{"ivel", "ível", 1},
	{"iveis", "íveis", 1},
	{"aria", "ária", 2},
	{"atoria", "atória", 1},
	{"itoria", "itória", 1},
	{"utoria", "utória", 1},
	{"ctoria", "ctória", 1},
	{"isoria", "isória", 1},
	{"avamos", "ávamos", 1},
	{"assemos", "ássemos", 1},
	{"essemos", "êssemos", 1},
	{"issemos", "íssemos", 1},
};

/* Forms that the stemmer would keep apart from their singular or masculine. */
static const Ending relatives[] = {
	{"mãe", "mae", WHOLE}, /* it would meet mão */
	{"mães", "mae", WHOLE},
	{"demais", "demais", WHOLE},
	{"ademais", "ademais", WHOLE},
	{"jamais", "jamais", WHOLE},
	{"deus", "deus", WHOLE},
	{"civis", "civil", WHOLE},
	{"perfis", "perfil", WHOLE},
	{"juvenis", "juvenil", WHOLE},
	{"ões", "ão", 1},
	{"ães", "ão", 3},
	{"ais", "al", 2},
	{"veis", "vel", 2},
	{"éis", "el", 2},
	{"óis", "ol", 1},
	{"éus", "éu", 1},
	{"eus", "eu", 1},
	{"aus", "au", 2},
	{"ceis", "cil", 2},
	{"teis", "til", 2},
	{"geis", "gil", 2},
	{"antis", "antil", 2},
	{"ns", "m", 3},
	{"âncias", "ância", 1},
	{"ária", "ário", 3},
	{"árias", "ário", 3},
	{"ória", "ório", 3},
	{"órias", "ório", 3},
	{"ás", "as", 2},
};

static bool
fits(const char *word, int length, const Ending *ending)
{
	int n = strlen(ending->before);

	if (ending->least == WHOLE ? length != n : length < n + ending->least)
		return false;
	return memcmp(word + length - n, ending->before, n) == 0;
}

/* Puts the other ending in its place; the new length. */
static int
change_ending(char *word, int length, const Ending *ending)
{
	int n = strlen(ending->after);

	length -= strlen(ending->before);
	memcpy(word + length, ending->after, n);
	return length + n;
}

/* The first of the endings that fits, or NULL. */
static const Ending *
find_ending(const Ending *endings, int n, const char *word, int length)
{
	for (int i = 0; i < n; i++)
	{
		if (fits(word, length, &endings[i]))
			return &endings[i];
	}
	return NULL;
}

int
restore_by_rule(const char *word, int length, char *out)
{
	const Ending *ending = find_ending(accents, lengthof(accents), word, length);

	memcpy(out, word, length);
	if (ending != NULL)
		return change_ending(out, length, ending);
	if (length < 2 || word[length - 1] != 's')
		return length;
	ending = find_ending(accents, lengthof(accents), word, length - 1);
	if (ending == NULL)
		return length;
	length = change_ending(out, length - 1, ending);
	out[length] = 's';
	return length + 1;
}

/*
 * In -uído, -aía and others the accent only says that the i is a syllable of
 * its own, and hides the verb's ending from the stemmer.
 */
static int
drop_hiatus(char *form, int length)
{
	for (int i = 1; i + 2 < length; i++)
	{
		if ((form[i - 1] == 'a' || form[i - 1] == 'u') && memcmp(form + i, "í", 2) == 0 &&
			strchr("adrsm", form[i + 2]) != NULL)
		{
			form[i] = 'i';
			memmove(form + i + 1, form + i + 2, length - i - 2);
			length--;
		}
	}
	return length;
}

int
form_normalize(char *form, int length)
{
	const Ending *ending;

	length = drop_hiatus(form, length);
	ending = find_ending(relatives, lengthof(relatives), form, length);
	return ending != NULL ? change_ending(form, length, ending) : length;
}
