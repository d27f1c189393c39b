package webd

import (
	"net/http"
	"strings"
)

// language is one that the start page has.
type language struct{ Tag, Name string }

func languages() []language {
	return []language{{"en", "English"}, {"zh-CN", "\u4e2d\u6587"}}
}

// chooseLanguage follows ?lang=, then the order of Accept-Language; English else. Weights are
// not looked at: browsers send the languages in the order of their weights.
func chooseLanguage(r *http.Request) string {
	asked := r.URL.Query().Get("lang") + "," + r.Header.Get("Accept-Language")
	for tag := range strings.SplitSeq(asked, ",") {
		tag, _, _ = strings.Cut(tag, ";")
		tag, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		switch tag {
		case "en":
			return "en"
		case "zh":
			return "zh-CN"
		}
	}
	return "en"
}

// step is one way to set up a client.
type step struct {
	Client string
	Steps  []string
}

// texts are the words of the start page in one language.
type texts struct {
	Title, Lead                          string
	ServersTitle, Service, Server        string
	PortTLS, PortStartTLS, Recommended   string
	Reading, ReadingPOP, Sending         string
	UserTitle, UserRule, SendRule        string
	CATitle, CARule, CALink              string
	CAWindows, CAMac, CAPhone, CAAndroid string
	ClientsTitle                         string
	PlainRule                            string
	Clients                              []step
}

func textsOf(lang string) texts {
	if lang == "zh-CN" {
		return chineseTexts()
	}
	return englishTexts()
}
