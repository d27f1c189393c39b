package webd

func englishTexts() texts {
	return texts{
		Title:        "Your mail is ready",
		Lead:         "Set up any mail program with the values below.",
		ServersTitle: "Servers", Service: "Service", Server: "Server name",
		PortTLS: "SSL/TLS port", PortStartTLS: "STARTTLS port", Recommended: "recommended",
		Reading: "Incoming mail (IMAP)", ReadingPOP: "Incoming mail (POP3)",
		Sending:   "Outgoing mail (SMTP)",
		UserTitle: "User name and password",
		UserRule: "The user name is your whole address, or the part before @. The password is " +
			"the one you were given.",
		SendRule: "The outgoing server asks for the same login as the incoming server: turn on " +
			"\"My outgoing server (SMTP) requires authentication\".",
		CATitle: "Trust this server once",
		CARule: "This server has a certificate of its own authority. Install the authority's " +
			"certificate on each device, and no program will warn again:",
		CALink: "Download the certificate",
		CAWindows: "Windows (Outlook, Foxmail): open the file, Install Certificate, Current User, " +
			"place it in \"Trusted Root Certification Authorities\".",
		CAMac: "Thunderbird: Settings, Privacy & Security, Manage Certificates, Authorities, " +
			"Import, \"Trust this CA to identify websites\".",
		CAPhone: "iPhone, iPad: open the link in Safari, allow the profile, Settings, Profile " +
			"Downloaded, Install; then General, About, Certificate Trust Settings, turn it on.",
		CAAndroid: "Android: Settings, Security, Encryption & credentials, Install a certificate, " +
			"CA certificate.",
		PlainRule: "Programs on the server's own machine may also connect without encryption.",

		ClientsTitle: "Step by step",
		Clients: []step{
			{"Outlook", []string{
				"File, Add Account. Type your address, open Advanced options, choose \"Let me " +
					"set up my account manually\", Connect.",
				"Choose IMAP (or POP).",
				"Incoming: server name and SSL/TLS port of the table, encryption SSL/TLS. " +
					"Outgoing: server name and SSL/TLS port of SMTP, encryption SSL/TLS.",
				"Type the password. Older Outlook: More Settings, Outgoing Server, \"My outgoing " +
					"server (SMTP) requires authentication\", \"Use same settings as my incoming " +
					"mail server\".",
			}},
			{"Foxmail", []string{
				"Menu, Account management, New, Other mailbox, Manual setup.",
				"Choose the type IMAP or POP3, type your address and password.",
				"Type server names and ports of the table and tick SSL for both servers.",
				"The SMTP login is the same as for incoming mail, which is Foxmail's default.",
			}},
			{"Thunderbird", []string{
				"Menu, New account, Email. Type name and address, then Manual configuration.",
				"Incoming IMAP: server name, SSL/TLS port, SSL/TLS, Normal password.",
				"Outgoing SMTP: server name, SSL/TLS port, SSL/TLS, Normal password.",
			}},
			{"iPhone, iPad", []string{
				"Settings, Mail, Accounts, Add Account, Other, Add Mail Account.",
				"Choose IMAP. Type the server name for incoming and outgoing mail, with user " +
					"name and password in both.",
				"In Advanced turn on Use SSL and type the SSL/TLS port of the table.",
			}},
			{"Android", []string{
				"Gmail or another mail app: Add account, Other, your address, Personal (IMAP).",
				"Type the server name and the SSL/TLS port, security type SSL/TLS; the same for " +
					"the outgoing server, with \"Require sign-in\".",
			}},
		},
	}
}
